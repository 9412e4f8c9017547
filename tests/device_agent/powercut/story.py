"""What frames live through: everything the agent writes to its disk happens in one of these."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import msgspec

from protocol import topics
from protocol.chunks import sha256_hex, split
from protocol.messages import TargetRef
from protocol.repository import ArtifactManifest, ReleaseManifest
from tests.device_agent.powercut.backend import Backend
from tests.device_agent.powercut.world import Frame
from tests.device_agent.repository import Published, Repository

BASE = b"".join(bytes([number]) * 4096 for number in range(35))
"""Three chunks, the last a small one."""


@dataclass(frozen=True)
class Releases:
    """One small repository for all stories."""

    repository: Repository
    first: Published
    fix: Published
    bad: Published
    other: Published
    """With a base model of its own, and of a newer security epoch."""
    agent: Published
    """Brings an agent."""
    final: Published


@cache
def releases() -> Releases:
    repository = Repository()
    base = repository.base(BASE)
    other = repository.base(BASE[::-1], "2.0")

    def release(version: str, targets: list[TargetRef], epoch: int = 0) -> Published:
        manifest = msgspec.json.encode(ReleaseManifest(name="portrait", version=version, targets=targets))
        signed = ArtifactManifest(kind="release", security_epoch=epoch)
        ref = repository.add(f"release/portrait-{version}.json", manifest, signed)
        return Published(ref, targets)

    def fixed(version: str, text: bytes, epoch: int = 0) -> Published:
        return release(version, [base, repository.adapter(text * 500, base, version)], epoch)

    made = Releases(
        repository,
        release("1.0", [base]),
        fixed("1.1", b"fix"),
        fixed("1.2", b"bad"),
        release("2.0", [other], epoch=1),
        release("1.4", [base, repository.agent(b"agent" * 20_000, "9.9")]),
        fixed("1.3", b"end", epoch=1),
    )
    repository.publish()
    return made


def backend() -> Backend:
    known = releases()
    return Backend(known.repository, {known.bad.release.sha256})


def install(frame: Frame, published: Published | None) -> None:
    """Offer, and let it be proved by films."""
    frame.offer(published)
    frame.settle()


def life(frame: Frame) -> None:
    """First install, a delta, one whose trial fails, one that goes back from probation, a rollback, another base
    model whose download is cut by the line, events and acknowledgements all the while."""
    known = releases()
    frame.connect()
    frame.note("It is on the wall.")
    install(frame, known.first)
    install(frame, known.fix)
    install(frame, known.bad)
    frame.note("Somebody pressed a button.")
    frame.disconnect()
    for number in range(6):
        frame.note(f"Offline {number}")
    frame.outbox.flush()
    frame.connect()
    install(frame, known.first)
    half = {topics.chunk_topic(sha256_hex(chunk)) for chunk in split(BASE[::-1])[1:]}
    frame.silent = half
    frame.offer(known.other)
    frame.silent = set()
    frame.disconnect()
    frame.connect()
    frame.settle()
    frame.outbox.close()


def birth(frame: Frame) -> None:
    """The first install."""
    frame.connect()
    install(frame, releases().first)
    frame.outbox.close()


def short(frame: Frame) -> None:
    """One install and one delta, the second one gone back from probation by a crash."""
    known = releases()
    frame.connect()
    install(frame, known.first)
    frame.offer(known.fix)
    frame.play("The renderer ended with signal 11.")
    frame.outbox.close()


def crashes(frame: Frame) -> None:
    """A committed release whose films crash one after the other: the one before it comes back."""
    known = releases()
    frame.connect()
    install(frame, known.first)
    install(frame, known.fix)
    for _ in range(3):
        frame.play("The renderer ended with signal 11.")
    frame.outbox.close()


def agents(frame: Frame) -> None:
    """A release brings an agent, going back gives the image's back, and the release after it keeps it."""
    known = releases()
    frame.connect()
    install(frame, known.first)
    install(frame, known.agent)
    install(frame, known.first)
    install(frame, known.agent)
    frame.offer(known.fix)
    frame.play("The renderer ended with signal 11.")
    frame.outbox.close()


def crowded(frame: Frame) -> None:
    """An outbox that overflows while nobody listens, and an offer that is taken back in mid-download."""
    known = releases()
    frame.connect()
    install(frame, known.first)
    frame.disconnect()
    for number in range(150):
        frame.note(f"Nobody listens: {number} {'.' * 120}")
    frame.connect()
    frame.wait(60.0)
    frame.silent = {topics.chunk_topic(sha256_hex(chunk)) for chunk in split(BASE[::-1])[1:]}
    frame.offer(known.other)
    frame.offer(None)
    frame.silent = set()
    install(frame, known.fix)
    frame.outbox.close()


Story = Callable[[Frame], None]
STORIES: dict[str, Story] = {
    "birth": birth, "short": short, "life": life, "crashes": crashes, "crowded": crowded, "agents": agents,
}  # fmt: skip
