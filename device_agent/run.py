"""`run`: the agent in the foreground until it is told to stop."""

import argparse
import logging
import sys
from pathlib import Path


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the sub-command to `device-agent`."""
    parser = subparsers.add_parser("run", help="run this frame's agent until it is stopped")
    parser.add_argument("--dir", type=Path, help="the agent's folder (default: FRAMEFLEET_AGENT_DIR)")
    parser.add_argument("--mqtt", help="the broker, mqtts://host:port (default: MQTT_URL)")
    parser.add_argument("--media", type=Path, action="append", default=[], help="a folder with photos and voices")
    parser.add_argument("--port", type=int, default=0, help="port of the local page (default: a free one)")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 0 after a stop, or 1 with one sentence on stderr."""
    # Imported here so that the other commands load nothing of this.
    from device_agent.agent import Agent, alone
    from device_agent.config import ConfigError, agent_folder, broker_url
    from device_agent.trust.image import NoTrustAnchor

    logging.basicConfig(
        level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    try:
        folder = agent_folder(arguments.dir)
        url = broker_url(arguments.mqtt)
        with alone(folder):
            Agent(folder, url, [folder.media, *arguments.media], arguments.port).run()
    except (ConfigError, NoTrustAnchor, ValueError) as error:
        print(f"device-agent run: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"device-agent run: The agent cannot work in its folder: {error}.", file=sys.stderr)
        return 1
    return 0
