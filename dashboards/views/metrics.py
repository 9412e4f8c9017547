"""``/metrics`` for Prometheus."""

from ipaddress import ip_address

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from dashboards.metrics import scrape_registry
from fleet.permissions import Action, may
from fleet.services.tokens import find_token

FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP")


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """This process's own metrics and the gauges of ``dashboards.metrics``, in the text format."""
    if not _may_read(request):
        return HttpResponse(
            "Metrics are for this machine, people who are logged in, and API tokens: Authorization: Token <token>.\n",
            status=401,
            content_type="text/plain; charset=utf-8",
            headers={"WWW-Authenticate": "Token"},
        )
    return HttpResponse(
        generate_latest(REGISTRY) + generate_latest(scrape_registry()), content_type=CONTENT_TYPE_LATEST
    )


def _may_read(request: HttpRequest) -> bool:
    """Whoever sits on this machine, is logged in or has an API token. What a proxy passes on comes from elsewhere."""
    if may(request.user, Action.READ):
        return True
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() in ("token", "bearer") and (found := find_token(token.strip())) is not None:
        return may(found.user, Action.READ, found)
    if any(name in request.META for name in FORWARDED):
        return False
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
