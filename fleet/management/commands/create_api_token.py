"""``manage.py create_api_token --user U --name N``"""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.permissions import SCOPES
from fleet.services.tokens import LIFETIME, create_token
from protocol.errors import Refused


class Command(BaseCommand):
    """Print a new API token, once."""

    help = "Make an API token of this name for a user and print it once; one of the same name stops working."

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("--user", required=True)
        parser.add_argument("--name", required=True)
        parser.add_argument("--scope", choices=list(SCOPES), default="", help="default: all that the user may")
        ends = parser.add_mutually_exclusive_group()
        ends.add_argument("--days", type=int, default=LIFETIME.days, help=f"how long it works ({LIFETIME.days})")
        ends.add_argument("--never", action="store_true", help="it never ends")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}: make one with manage.py createsuperuser.")
        if not 1 <= options["days"] <= 3650:
            raise CommandError("A token works for 1 to 3650 days; --never makes one that never ends.")
        lifetime = None if options["never"] else timedelta(days=options["days"])
        try:
            token = create_token(user, options["name"], scope=options["scope"], lifetime=lifetime)
        except Refused as refused:
            raise CommandError(refused.detail) from None
        self.stdout.write(token)
