"""``manage.py broker_users --out FILE``"""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.broker_users import broker_users
from fleet.models import Frame
from fleet.pki import write_private


class Command(BaseCommand):
    """Write the broker's users and permissions."""

    help = "Write the broker's users and permissions from the enrolled frames; let the broker read them with SIGHUP."

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("--out", type=Path, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        ids = list(Frame.objects.values_list("id", flat=True))
        out: Path = options["out"]
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_private(out, broker_users(ids).encode())
        except OSError as error:
            raise CommandError(f"Cannot write {out}: {error.strerror}.") from None
        self.stdout.write(f"Wrote {out}: users for the bridge and each frame ({len(ids)}).")
