"""A frame with a real connection in this process, whose wall clock can be wrong."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from device_agent.clock import SecurityClock
from device_agent.core import FrameCore
from device_agent.folder import AgentFolder, read_frame_file, read_identity
from device_agent.identity.claim import server_context
from device_agent.identity.lifeline import Endpoint, Lifeline
from device_agent.identity.pairs import Pairs
from device_agent.ports import Ports
from device_agent.storage.journal import FileDocuments, MemoryJournal
from device_agent.storage.outbox import MemoryOutbox
from device_agent.storage.store import MemoryStore
from device_agent.transport import MqttDriver
from device_agent.trust.epoch import MemoryEpoch
from device_agent.trust.image import ImageTrust, director_root
from tests.device_agent.frame import FakeTrial


class LiveFrame:
    """Core, lifeline and paho over a folder, in this process, with a wall clock that can be wrong."""

    def __init__(self, path: Path, url: str, anchors: dict[str, bytes], wall: Callable[[], float]) -> None:
        folder = AgentFolder(path)
        documents = FileDocuments(folder.trust)
        for name, document in anchors.items():
            documents.save(name, document)
        self.pairs = Pairs(folder.identity)
        self.clock = clock = SecurityClock(documents, director_root(documents).version, wall=wall)
        self.outbox = MemoryOutbox()
        ports = Ports(
            journal=MemoryJournal(),
            documents=documents,
            store=MemoryStore({}),
            outbox=self.outbox,
            trial=FakeTrial(),
            trust=partial(ImageTrust, now=clock.now),
            epoch=MemoryEpoch(),
            security_now=clock.now,
            now_ms=clock.date_ms,
            witness=clock.witness,
        )
        self.core = FrameCore(read_identity(folder), ports)
        frame = read_frame_file(folder)
        endpoint = None
        if frame.server is not None:
            endpoint = Endpoint(frame.server, lambda: server_context(folder, frame, self.pairs.current.ca, clock))
        self.lifeline = Lifeline(self.core, frame.frame_id, self.pairs, clock, lambda: ports.trust(documents), endpoint)
        self.driver = MqttDriver(self.lifeline, url, self.lifeline)
        self.thread = threading.Thread(target=self.driver.run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.driver.stop()
        self.thread.join(10)
