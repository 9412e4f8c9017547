"""One frame of ``benchmarks.model``: ``python -m benchmarks.model_frame --dir DIR --mqtt URL``, until SIGTERM.

The agent's own core, connection, trust, journal and store. Two things differ: the bytes are no model, so the trial
lets pass whatever was fetched and verified, and every chunk that is asked for is counted in a file that outlives
``kill -9``.
"""

import argparse
import logging
import mmap
import signal
import struct
from pathlib import Path

from device_agent.core import FrameCore
from device_agent.folder import AgentFolder, read_identity
from device_agent.installer.slots import Slot
from device_agent.ports import Ports, TrialPolicy, TrialReport
from device_agent.storage.journal import FileDocuments, FileJournal
from device_agent.storage.outbox import FileOutbox
from device_agent.storage.store import FileStore
from device_agent.tls import TlsFiles
from device_agent.transfer.ports import TransferPorts
from device_agent.transfer.usage import FileUsage
from device_agent.transport import MqttDriver
from device_agent.trust.epoch import FileEpoch
from device_agent.trust.image import ImageTrust
from protocol.exchange import Command, Subscribe

COUNTER = "asked"
_NUMBER = struct.Struct("<Q")
TURN_S = 2.0


class CountingDriver(MqttDriver):
    """Counts the chunks that were ever asked for, in shared memory over the file ``COUNTER``."""

    def __init__(self, core: FrameCore, url: str, tls: TlsFiles, folder: Path) -> None:
        super().__init__(core, url, tls)
        path = folder / COUNTER
        if not path.exists():
            path.write_bytes(_NUMBER.pack(0))
        with path.open("r+b") as file:
            self._counter = mmap.mmap(file.fileno(), _NUMBER.size)

    def _carry_out(self, commands: list[Command]) -> None:
        chunks = sum(isinstance(one, Subscribe) and one.topic.startswith("repo/chunk/") for one in commands)
        if chunks:
            (before,) = _NUMBER.unpack_from(self._counter)
            _NUMBER.pack_into(self._counter, 0, before + chunks)
        super()._carry_out(commands)


def asked(folder: Path) -> int:
    """How many chunks the frame of this folder ever asked for, those that came twice or never included."""
    return int(_NUMBER.unpack((folder / COUNTER).read_bytes())[0])


class Passes:
    """The trial of bytes that are no model."""

    def measure(self, slot: Slot) -> TrialReport:
        del slot
        return TrialReport(())


def main() -> int:
    """Until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_frame", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--mqtt", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = AgentFolder(arguments.dir)
    ports = Ports(
        journal=FileJournal(folder.journal),
        documents=FileDocuments(folder.trust),
        store=FileStore(folder.path),
        outbox=FileOutbox(folder.outbox, 16_000_000, 100_000),
        trial=Passes(),
        trust=ImageTrust,
        epoch=FileEpoch(folder.epoch),
        transfer=TransferPorts(usage=FileUsage(folder.path / "usage.json")),
    )
    core = FrameCore(read_identity(folder), ports, policy=TrialPolicy(healthy_s=TURN_S))
    tls = TlsFiles(folder.identity / "ca.pem", folder.identity / "cert.pem", folder.identity / "key.pem")
    driver = CountingDriver(core, arguments.mqtt, tls, folder.path)
    signal.signal(signal.SIGTERM, lambda *_: driver.stop())
    driver.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
