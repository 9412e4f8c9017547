"""`run`: the agent in the foreground until it is told to stop."""

import argparse
import faulthandler
import logging
import os
import signal
import sys

from device_agent.settings.layers import add_arguments, from_arguments


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the sub-command to `device-agent`."""
    parser = subparsers.add_parser("run", help="run this frame's agent until it is stopped")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 0 after a stop, or 1 with one sentence on stderr."""
    # Imported here so that the other commands load nothing of this.
    from device_agent.boot import ENDS, Boot
    from device_agent.folder import ConfigError, agent_folder, alone, trial_policy
    from device_agent.notify import Notifier
    from device_agent.trust.image import NoTrustAnchor

    try:
        settings = from_arguments(arguments).settings
        logging.basicConfig(
            level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
        )
        logging.getLogger("tuf").setLevel(logging.WARNING)  # a threshold's missing signatures are no news
        # The watchdog ends a hanging agent with SIGABRT: then the log shows where each thread was.
        faulthandler.enable()
        folder = agent_folder(settings.dir)
        with alone(folder):
            boot = Boot(folder, dict(os.environ), sys.argv[1:])
            boot.begin(trial_policy(settings).healthy_s)
            # What draws and connects is loaded only by the agent that stays.
            from device_agent.agent import Agent

            agent = Agent(folder, settings, Notifier.from_environment(os.environ), boot)
            agent.run()
            # Whoever asks for the end from here on is heard by the next agent.
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
            if agent.hands_over:
                boot.hand_over()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
    except (ConfigError, NoTrustAnchor, ValueError) as error:
        print(f"device-agent run: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"device-agent run: The agent cannot work in its folder: {error}.", file=sys.stderr)
        return 1
    return 0 if agent.told else 1
