"""``manage.py load_history FILE``"""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.services.history import load_history
from protocol.errors import Refused


class Command(BaseCommand):
    """Give simulated frames a past."""

    help = "Take in what `python -m simulator history` wrote: days of simulated people, for simulated frames alone."

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        try:
            new = load_history(options["file"], actor="local")
        except Refused as refused:
            raise CommandError(refused.detail) from None
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror}.") from None
        self.stdout.write(f"New frame-days of simulated people: {new}.")
