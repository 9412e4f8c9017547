"""``manage.py fleet_ca [--name HOST ...] [--rotate | --status | --retire [--force]]``"""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from fleet import authority
from fleet.pki import Authority
from fleet.selectors import frames_by_authority
from fleet.services.audit import audit
from fleet.services.broker import users_changed
from protocol.errors import Refused

RELOAD = "Let broker, bridge and birth endpoint read their certificates and ca.pem again (restart them)."


class Command(BaseCommand):
    """The fleet CA and the certificates of this machine's services."""

    help = (
        "Make the fleet CA and the server's and bridge's certificates where they are missing or near their end; "
        "or let a new authority take over from the old one: --rotate, wait until --status says 0, --retire."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument(
            "--name", action="append", default=[], help="a host name or address by which frames reach the services"
        )
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--rotate", action="store_true", help="a new authority signs; the old one is trusted still")
        what.add_argument("--status", action="store_true", help="how many frames hold certificates of which authority")
        what.add_argument("--retire", action="store_true", help="trust the old authority no more")
        parser.add_argument("--force", action="store_true", help="retire it although frames hold its certificates")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        try:
            if options["rotate"]:
                self._rotate()
            elif options["status"]:
                self._status()
            elif options["retire"]:
                self._retire(force=options["force"])
            else:
                self._ensure(options["name"])
        except Refused as refused:
            raise CommandError(refused.detail) from None
        except (ValueError, OSError) as error:
            raise CommandError(str(error)) from None

    def _ensure(self, names: list[str]) -> None:
        written = authority.ensure_services(settings.FRAMEFLEET_VAR, names=names)
        for folder in written:
            self.stdout.write(f"Wrote {folder}")
        if not written:
            self.stdout.write("The fleet CA and its services' certificates are there already.")

    def _rotate(self) -> None:
        with transaction.atomic():
            audit("local", "rotate_ca", "fleet CA")
            users_changed()
            new = authority.rotate(settings.FRAMEFLEET_VAR)
        self.stdout.write(f"The authority {new.id} signs from now on; the one before it is trusted still. {RELOAD}")
        self.stdout.write("Frames ask for new certificates by themselves: see fleet_ca --status.")

    def _status(self) -> None:
        held = frames_by_authority()
        signing, *before = Authority.all(authority.folder())
        for one, word in [(signing, "signs"), *((one, "is trusted still") for one in before)]:
            until = one.parsed.not_valid_after_utc
            frames = held.pop(one.id, 0)
            self.stdout.write(f"{one.id} {word}, until {until:%Y-%m-%d}; frames with its certificate: {frames}")
        for unknown, frames in held.items():
            self.stdout.write(f"{unknown} is not trusted; frames with its certificate: {frames}")

    def _retire(self, *, force: bool) -> None:
        before = Authority.all(authority.folder())[1:]
        if not before:
            raise CommandError("There is no old authority: rotate first (fleet_ca --rotate).")
        left = sum(frames_by_authority().get(one.id, 0) for one in before)
        if left and not force:
            raise CommandError(
                f"Frames that hold a certificate of {before[0].id} only: {left}. They would come back by /birth/renew "
                "alone: wait for them, or retire it with --force."
            )
        with transaction.atomic():
            audit("local", "retire_ca", before[0].id, {"frames": left})
            users_changed()
            authority.retire(settings.FRAMEFLEET_VAR)
        self.stdout.write(f"The authority {before[0].id} is trusted no more. {RELOAD}")
