"""How often somebody may try to log in, on top of django-axes, which counts failures in the database.

After AXES_FAILURE_LIMIT failures for one name from one address, or FACTOR times as many for any names from one address,
further tries from there are refused until AXES_COOLOFF_TIME has passed since the last failure that counted. A name
alone is never locked, so nobody can lock ops out from elsewhere.
"""

from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest

from fleet.addresses import network_of

FACTOR = 5
NAME = 150


class Throttle(AxesDatabaseHandler):  # type: ignore[misc]  # django-axes is untyped
    """django-axes knows one limit; an address's own failures count less towards it."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """Failures that count towards AXES_FAILURE_LIMIT, in the order of AXES_LOCKOUT_PARAMETERS."""
        of_name, of_address = (
            attempts.aggregate(sum=Sum("failures_since_start"))["sum"] or 0
            for attempts in self.get_user_attempts(request, credentials)
        )
        return max(of_name, of_address // FACTOR)


def typed_name(request: HttpRequest, credentials: dict[str, Any] | None = None) -> str | None:
    """The name that counts: no user's is longer than NAME, and what is longer would not fit where failures are kept."""
    name = (credentials or request.POST).get("username")
    return None if name is None else str(name)[:NAME]


def forgive(request: HttpRequest, username: str) -> None:
    """Forget this name's failures from this address. Others' failures from there go on counting."""
    AccessAttempt.objects.filter(username=username, ip_address=client_address(request)).delete()


def client_address(request: HttpRequest) -> str | None:
    """Where the request comes from (``network_of``). With FRAMEFLEET_PROXIES=n, what the n-th proxy before us says."""
    text = request.META.get("REMOTE_ADDR", "")
    if settings.FRAMEFLEET_PROXIES:
        passed = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
        text = passed[-settings.FRAMEFLEET_PROXIES] if len(passed) >= settings.FRAMEFLEET_PROXIES else text
    return network_of(text)
