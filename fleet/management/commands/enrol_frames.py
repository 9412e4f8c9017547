"""``manage.py enrol_frames --count 200 --prefix frame --locale zh --hardware rk3588 --out DIR``"""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.pki import Authority
from fleet.services.enrolment import Context, enrol, frame_ids
from protocol.errors import Refused


class Command(BaseCommand):
    """Create frames with their keys and client certificates."""

    help = "Enrol frames PREFIX-0001 and on, and write DIR/<id>/{key.pem,cert.pem,ca.pem,frame.json}."

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("--count", type=int, default=1)
        parser.add_argument("--prefix", default="frame")
        parser.add_argument("--locale", default="en")
        parser.add_argument("--hardware", default="rk3588")
        parser.add_argument("--timezone", default="UTC", help="IANA name, such as Asia/Shanghai")
        parser.add_argument("--site", default="", help="the uplink they share (default: each its own)")
        parser.add_argument("--simulated", action="store_true", help="these frames are simulated, and are shown so")
        parser.add_argument("--out", type=Path, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        context = Context(
            options["hardware"], options["locale"], options["simulated"], options["timezone"], options["site"]
        )
        authority = Authority.open(settings.FRAMEFLEET_VAR / "ca")
        try:
            ids = frame_ids(options["prefix"], options["count"])
            done = enrol(ids, context, authority, options["out"], actor="local")
        except Refused as refused:
            raise CommandError(refused.detail) from None
        except OSError as error:
            raise CommandError(f"Cannot write to {options['out']}: {error.strerror}.") from None
        self.stdout.write(
            f"Frames enrolled in {options['out']}: {len(done.issued)}; enrolled already: {len(done.kept)}."
        )
