"""``manage.py set_role --user U --role R``"""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.permissions import Role, role_named
from fleet.services.people import LastAdmin, set_role

NONE = "none"


class Command(BaseCommand):
    """Give a user a role."""

    help = "Give a user a role, and take every other role away."

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("--user", required=True)
        parser.add_argument("--role", required=True, choices=[*(role.word for role in Role), NONE])

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}: make one with manage.py createsuperuser.")
        try:
            set_role(user, role_named(options["role"]), "local")
        except LastAdmin as refused:
            raise CommandError(str(refused)) from None
        self.stdout.write(f"{options['user']}: {options['role']}.")
