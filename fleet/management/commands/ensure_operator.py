"""``manage.py ensure_operator --username U``"""

import os
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, transaction


class Command(BaseCommand):
    """Make a superuser unless there is one of that name; one that is there keeps its password."""

    help = "Make a superuser with the password in DJANGO_SUPERUSER_PASSWORD, unless a user of that name exists."

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("--username", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        username, password = options["username"], os.environ.get("DJANGO_SUPERUSER_PASSWORD", "")
        if User.objects.filter(username=username).exists():
            return
        if not password:
            raise CommandError("Set DJANGO_SUPERUSER_PASSWORD to the new user's password.")
        try:
            with transaction.atomic():
                User.objects.create_superuser(username, f"{username}@localhost", password)
        except IntegrityError:  # another command was faster
            return
        self.stdout.write(f"Made the user {username}.")
