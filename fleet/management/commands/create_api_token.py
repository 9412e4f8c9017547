"""``manage.py create_api_token --user U --name N``"""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from fleet.services.tokens import create_token


class Command(BaseCommand):
    """Print a new API token, once."""

    help = "Make an API token of this name for a user and print it once; one of the same name stops working."

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("--user", required=True)
        parser.add_argument("--name", required=True)
        parser.add_argument("--days", type=int, default=365, help="how long it works (default 365)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}: make one with manage.py createsuperuser.")
        if not 1 <= options["days"] <= 3650 or not 1 <= len(options["name"]) <= 64:
            raise CommandError("A token works for 1 to 3650 days and has a name of 1 to 64 characters.")
        expires = timezone.now() + timedelta(days=options["days"])
        self.stdout.write(create_token(user, options["name"], expires))
