"""``manage.py broker_users --out FILE [--crl FILE] [--watch --pid-file FILE]``"""

import signal
import threading
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.broker_files import Files, write
from fleet.broker_watch import Watcher
from fleet.kick import Kicker


class Command(BaseCommand):
    """Write who may connect to the broker."""

    help = (
        "Write the broker's users and permissions (--out, for NATS) or its lists of revoked certificates (--crl, for "
        "Mosquitto); with --watch keep them up to date and let the broker read them again."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("--out", type=Path, help="the users file of NATS")
        parser.add_argument("--crl", type=Path, help="the crlfile of Mosquitto")
        parser.add_argument("--watch", action="store_true", help="go on until SIGTERM, writing whenever it changes")
        parser.add_argument("--pid-file", type=Path, help="the broker's own, to send it SIGHUP")
        parser.add_argument(
            "--kick",
            action="store_true",
            help="end live connections of certificates that are not good any more, by Mosquitto's dynamic security "
            "plugin (NATS does so by itself); connects to MQTT_URL as the bridge does",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        files = Files(options["out"], options["crl"], options["pid_file"])
        if files.users is None and files.crl is None:
            raise CommandError("Say what to write: --out FILE for NATS, --crl FILE for Mosquitto.")
        if options["watch"]:
            self._watch(files, Kicker.from_settings() if options["kick"] else None)
            return
        try:
            door = write(files)
        except OSError as error:
            raise CommandError(
                f"Cannot write {error.filename or files.users or files.crl}: {error.strerror}."
            ) from None
        wrote = ", ".join(str(path) for path in (files.users, files.crl) if path)
        self.stdout.write(f"Wrote {wrote}: the bridge and {door.certificates} certificates of frames may connect.")

    def _watch(self, files: Files, kicker: Kicker | None) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        Watcher(files, kicker).run(stop)
