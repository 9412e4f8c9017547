"""``manage.py fleet_ca``"""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from fleet.authority import ensure_services


class Command(BaseCommand):
    """Make the fleet CA and the certificates of this machine's services."""

    help = "Make the fleet CA and the server's and bridge's certificates where they are missing or near their end."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        written = ensure_services(settings.FRAMEFLEET_VAR)
        for folder in written:
            self.stdout.write(f"Wrote {folder}")
        if not written:
            self.stdout.write("The fleet CA and its services' certificates are there already.")
