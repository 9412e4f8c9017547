"""``manage.py online_keys``: make the server's online keys if they are missing."""

from typing import Any

from django.core.management.base import BaseCommand

from ota import keys


class Command(BaseCommand):
    """Idempotent: existing keys stay."""

    help = "Make the online keys (snapshot, timestamp, director) that do not exist yet."

    def handle(self, *args: Any, **options: Any) -> None:
        """Make and say."""
        made = keys.make_missing()
        self.stdout.write(f"Made {', '.join(made)} in {keys.folder()}." if made else "All online keys exist.")
