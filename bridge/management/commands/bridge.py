"""``manage.py bridge``"""

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from prometheus_client import start_http_server

from bridge.link import BridgeError, Broker
from bridge.service import Bridge


class Command(BaseCommand):
    """The MQTT side of the backend, in the foreground."""

    help = "Take in what frames send and publish what they should have, until SIGTERM or Ctrl-C."
    requires_system_checks = ()  # the web server's business; this starts again and again, so it starts fast

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument(
            "--metrics-port", type=int, default=0, help="serve the bridge's own metrics on 127.0.0.1 at this port"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        try:
            broker = Broker.parse(settings.MQTT_URL, settings.MQTT_CA, settings.MQTT_CERT, settings.MQTT_KEY)
            bridge = Bridge(broker, settings.FRAMEFLEET_VAR)
        except BridgeError as error:
            raise CommandError(str(error)) from None
        if options["metrics_port"]:
            start_http_server(options["metrics_port"], addr="127.0.0.1")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: bridge.stop())
        failure = bridge.run()
        if failure is not None:
            raise CommandError(failure)
