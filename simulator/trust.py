"""The frame's TUF client, with identical work done once for all frames of this process.

Simulated frames read the same documents in the same order. Each step's outcome is remembered under the hash of
everything that led to it: the documents the frame held, and each document it was given since. The first frame on a path
really verifies (``device_agent.trust``); those after it get the same answer. Outcomes are forgotten after a minute, so
expiry is looked at again. Frames on walls never share anything.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from tuf.api.metadata import Root

from device_agent.ports import DocumentStore, FrameTrust, SignedTarget
from device_agent.storage.journal import MemoryDocuments
from device_agent.trust.image import ImageTrust
from protocol.chunks import sha256_hex
from protocol.repository import DIRECTOR_ROOT, OFFLINE_ROLES, ONLINE_ROLES

NAMES = (*OFFLINE_ROLES, *ONLINE_ROLES, DIRECTOR_ROOT)
MAX_OUTCOMES = 20_000
FRESH_S = 60.0


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: object
    error: Exception | None
    saved: dict[str, bytes]


class TrustCache:
    """Outcomes of all frames; used by one thread, the loop. ``open`` is the port ``Ports.trust``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._outcomes: dict[str, _Outcome] = {}
        self._clock = clock
        self._began = clock()
        self.verified = 0
        """Steps that were really taken."""
        self.reused = 0

    def open(self, documents: DocumentStore) -> FrameTrust:
        """A refresh over one frame's documents."""
        if self._clock() - self._began > FRESH_S or len(self._outcomes) > MAX_OUTCOMES:
            self._outcomes.clear()
            self._began = self._clock()
        return _SharedTrust(self, documents)

    def outcome(self, path: str, take: Callable[[], _Outcome]) -> _Outcome:
        """The outcome remembered under ``path``, or what ``take`` finds."""
        found = self._outcomes.get(path)
        if found is None:
            self.verified += 1
            found = self._outcomes[path] = take()
        else:
            self.reused += 1
        return found


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    arguments: tuple[Any, ...]

    def take(self, trust: ImageTrust) -> object:
        method = getattr(trust, self.name)
        return method(*self.arguments) if callable(method) else method

    def fingerprint(self) -> str:
        return " ".join(
            [self.name, *(sha256_hex(part) if isinstance(part, bytes) else str(part) for part in self.arguments)]
        )


class _Recording(MemoryDocuments):
    """Documents that remember what was saved since they were last asked."""

    def __init__(self, documents: dict[str, bytes]) -> None:
        super().__init__(documents)
        self.saved: dict[str, bytes] = {}

    def save(self, name: str, document: bytes) -> None:
        super().save(name, document)
        self.saved[name] = document


@dataclass(slots=True)
class _Real:
    """A real client and how many recorded steps it has taken."""

    trust: ImageTrust
    documents: _Recording
    done: int = 0

    @classmethod
    def over(cls, held: dict[str, bytes]) -> "_Real":
        documents = _Recording(held)
        return cls(ImageTrust(documents), documents)

    def take(self, before: list[_Step], step: _Step, record: bool) -> _Outcome:
        """Catch up with the steps ``before``, then take this one."""
        for missed in before[self.done :]:
            missed.take(self.trust)
        self.done = len(before)
        self.documents.saved.clear()
        value = step.take(self.trust)
        self.done += record
        return _Outcome(value, None, dict(self.documents.saved))


class _SharedTrust:
    """One frame's refresh. The real one is made, and brought to where this one stands, when a step is new."""

    def __init__(self, cache: TrustCache, documents: DocumentStore) -> None:
        self._cache = cache
        self._documents = documents
        self._held = {name: data for name in NAMES if (data := documents.load(name)) is not None}
        self._path = sha256_hex("".join(f"{name} {sha256_hex(data)}\n" for name, data in self._held.items()).encode())
        self._steps: list[_Step] = []
        self._real: _Real | None = None
        self._do("director_root", record=False)  # a frame without anchors is told at once, as on a wall

    @property
    def director_root(self) -> Root:
        return cast(Root, self._do("director_root", record=False))

    def root_version(self, chain: str) -> int:
        return cast(int, self._do("root_version", chain, record=False))

    def update_root(self, chain: str, document: bytes) -> None:
        self._do("update_root", chain, document)

    def begin(self) -> None:
        self._do("begin")

    def needed(self, role: str) -> int | None:
        return cast("int | None", self._do("needed", role))

    def update(self, role: str, document: bytes) -> None:
        self._do("update", role, document)

    def target(self, path: str) -> SignedTarget:
        return cast(SignedTarget, self._do("target", path, record=False))

    def _do(self, name: str, *arguments: Any, record: bool = True) -> object:
        step = _Step(name, arguments)
        path = sha256_hex(f"{self._path} {step.fingerprint()}".encode())
        outcome = self._cache.outcome(path, lambda: self._take(step, record))
        if outcome.error is not None:
            # One object for many frames: without this each raise would lengthen its traceback.
            raise outcome.error.with_traceback(None)
        for role, document in outcome.saved.items():
            self._documents.save(role, document)
        if record:
            self._path = path
            self._steps.append(step)
        return outcome.value

    def _take(self, step: _Step, record: bool) -> _Outcome:
        try:
            if self._real is None:
                self._real = _Real.over(self._held)
            return self._real.take(self._steps, step, record)
        except Exception as error:
            return _Outcome(None, error, {})
