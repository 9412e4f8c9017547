"""What every template may ask about the person who looks."""

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from fleet.permissions import Action, may


def person(request: HttpRequest) -> dict[str, object]:
    """``administers``: whether the link to the administration is shown."""
    user = getattr(request, "user", None)
    return {"administers": SimpleLazyObject(lambda: user is not None and may(user, Action.MANAGE_PEOPLE))}
