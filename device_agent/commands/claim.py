"""`claim`: a new frame gets its identity, with the claim token from its label."""

import argparse
import sys
from pathlib import Path

from device_agent.settings.layers import add_arguments, from_arguments

MAX_TOKEN_FILE = 4096


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the sub-command to `device-agent`."""
    parser = subparsers.add_parser("claim", help="give a new frame its identity, with the token from its label")
    add_arguments(parser, ["dir"])
    parser.add_argument("token", nargs="?", help="the claim token, or the whole address in the label's QR code")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="read the token from a file instead")
    parser.add_argument("--server", metavar="URL", help="the birth endpoint, https://host:port (default: the QR's)")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="authority of the server's certificate, in PEM")
    parser.add_argument("--hardware", default=None, help="the board (default: what the kernel calls it)")
    parser.add_argument("--locale", default="und", help="language of the household, as in zh-CN (default: the label's)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 0, or 1 with one sentence on stderr."""
    # Imported here so that the other commands load nothing of this.
    from device_agent.folder import AgentFolder, ConfigError, alone
    from device_agent.identity.claim import Birth, claim
    from device_agent.identity.server import BirthFailed, parse_server
    from protocol.birth import read_claim
    from protocol.errors import Refused

    try:
        text = _token(arguments)
        token = read_claim(text)  # first: without a token, asking for the server would lead astray
        server = arguments.server or _server_of(text)
        if server is None:
            raise ConfigError("The server is not known: give --server https://host:port.")
        parse_server(server)
        path = from_arguments(arguments).settings.dir
        if path is None:
            raise ConfigError("The agent's folder is not known: give --dir or set FRAMEFLEET_AGENT_DIR.")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = AgentFolder(path.resolve())
        birth = Birth(
            server=server,
            token=token,
            hardware=arguments.hardware or _board(),
            locale=arguments.locale,
            ca=arguments.ca,
        )
        with alone(folder):
            frame = claim(folder, birth)
    except (ConfigError, BirthFailed, Refused, ValueError) as error:
        print(f"device-agent claim: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"device-agent claim: The identity cannot be kept: {error}.", file=sys.stderr)
        return 1
    broker = f"; its broker is {frame.mqtt}" if frame.mqtt else ""
    print(f"This is frame {frame.frame_id} now{broker}.")
    return 0


def _token(arguments: argparse.Namespace) -> str:
    if (arguments.token is None) == (arguments.token_file is None):
        raise ValueError("Give the claim token, or --token-file with a file that holds it.")
    if arguments.token is not None:
        return str(arguments.token)
    path: Path = arguments.token_file
    try:
        with path.open("rb") as file:
            return file.read(MAX_TOKEN_FILE).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The token file {path} cannot be read: {error}.") from None


def _server_of(text: str) -> str | None:
    """The endpoint in a QR code's address."""
    head, found, _ = text.strip().partition("/claim/")
    return head if found and head.startswith("https://") else None


def _board() -> str:
    """Such as ``rk3588``, from the kernel's device tree; elsewhere the machine's architecture."""
    import platform

    try:
        names = Path("/proc/device-tree/compatible").read_bytes()[:1024].decode("ascii", "replace").split("\0")
    except OSError:
        return platform.machine()[:64]
    chips = [name.partition(",")[2] for name in names if "," in name]
    return (chips[-1] if chips else platform.machine())[:64]
