"""``manage.py online_keys``: make the server's online keys if they are missing, or the next one of a role."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ota import keys


class Command(BaseCommand):
    """Idempotent: existing keys stay."""

    help = "Make the online keys (snapshot, timestamp, director) that do not exist yet, or the next key of a role."

    def add_arguments(self, parser: CommandParser) -> None:
        """Say which."""
        parser.add_argument("--rotate", action="append", default=[], choices=(*keys.ROLES, "all"), metavar="ROLE")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make and say."""
        made = keys.make_missing()
        self.stdout.write(f"Made {', '.join(made)} in {keys.folder()}." if made else "All online keys exist.")
        wanted = keys.ROLES if "all" in options["rotate"] else options["rotate"]
        for role in wanted:
            self.stdout.write(f"The next {role} key is {keys.rotate(role).public.keyid}.")
        if wanted:
            self.stdout.write(
                "The server signs with the old keys until it has a root that names the new ones: "
                "framectl keys rotate DIR --role online, framectl keys sign DIR, framectl repository push-roles."
            )
