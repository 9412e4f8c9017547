"""Writing down who logged in and who could not."""

from django.contrib.auth.models import User

from fleet.services.audit import audit


def note_login(user: User, address: str | None, second_factor: str | None) -> None:
    """``second_factor`` is ``code``, ``recovery_code`` or None."""
    audit(user.get_username(), "login", user.get_username(), {"address": address, "second_factor": second_factor})


def note_failure(username: str, address: str | None, what: str, *, locked: bool) -> None:
    """``what`` was wrong: ``password`` or ``code``. A name that nobody has is not kept: it may be a password."""
    known = User.objects.filter(username=username).exists()
    subject = username if known else "unknown user"
    audit("anonymous", "login_failed", subject, {"address": address, "wrong": what})
    if locked:
        audit("anonymous", "login_locked", subject, {"address": address})


def note_logout(user: User) -> None:
    """Somebody left."""
    audit(user.get_username(), "logout", user.get_username())
