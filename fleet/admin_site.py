"""Django's admin, for the role admin alone and behind the console's own login."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse

from fleet.permissions import Action, may


class FleetAdminSite(AdminSite):
    """``fleet.apps.FleetAdminConfig`` makes it the site of every registered table."""

    site_header = "framefleet"
    enable_nav_sidebar = True

    def has_permission(self, request: HttpRequest) -> bool:
        """Admins only."""
        user = request.user
        return isinstance(user, User | AnonymousUser) and may(user, Action.MANAGE_PEOPLE)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """There is one login, with one throttle and one second factor."""
        return redirect_to_login(request.GET.get("next", request.get_full_path()), "login")
