"""Files that went bad on a frame's disk, or that somebody wrote by hand: the agent starts, or says why not."""

import datetime as dt
import functools
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from device_agent.clock import BUILT, SecurityClock
from device_agent.folder import AgentFolder, ConfigError, read_frame_file
from device_agent.identity.pairs import Pairs, certified_identity
from device_agent.installer.slots import Installed, Journal, Probation, Slot
from device_agent.settings.layers import load
from device_agent.storage.disk import RealDisk, using
from device_agent.storage.journal import FileDocuments, FileJournal
from device_agent.storage.outbox import FileOutbox
from device_agent.telemetry import health
from device_agent.transfer.usage import FileUsage
from device_agent.trust.epoch import EpochUnknown, FileEpoch
from protocol.messages import AnyEvent, LipError
from tests.device_agent.fuzzing import bounded, damaged
from tests.device_agent.hostile import fuzz, hostile
from tests.device_agent.identity.issuer import Authority, pem, private_pem

HASH = "0" * 63 + "1"
DAY = dt.date(2026, 5, 2)


class Unsynced(RealDisk):
    """Nothing here is about cuts, and syncing takes the time of a hundred examples."""

    def sync(self, handle: int) -> None:
        pass

    def sync_folder(self, folder: Path) -> None:
        pass


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder for each example."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a real disk writes renamed files out at once
    path = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory))
    try:
        with using(Unsynced()):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def told(call: Callable[[], object]) -> None:
    """It works, or ends with one sentence."""
    with bounded(40):
        try:
            call()
        except ConfigError as error:
            assert str(error).endswith((".", "?"))


# --- what people and the factory write --------------------------------------------------------------------------------

FRAME_JSON = json.dumps(
    {"frame_id": "frame-1", "locale": "zh", "hardware": "rk3588", "mqtt": "mqtts://h:8883", "server": "https://h",
     "claim": HASH, "system_ca": True}
).encode()  # fmt: skip
TOML = b"""dir = "/var/lib/frame"
mqtt = "mqtts://broker:8883"
media = ["/home/photos"]
port = 8300
trial_healthy_hours = 2.5
sink = "none"
npu_core_mask = 0
"""


@fuzz(100)
@given(hostile([FRAME_JSON]))
def test_a_frame_json_is_read_or_refused(text: bytes) -> None:
    with folder() as path:
        frame = AgentFolder(path)
        frame.identity.mkdir()
        (frame.identity / "frame.json").write_bytes(text)
        told(lambda: read_frame_file(frame))


@fuzz(150)
@given(st.one_of(damaged([TOML]), hostile([FRAME_JSON])))
def test_a_settings_file_is_read_or_refused(text: bytes) -> None:
    with folder() as path:
        (path / "agent.toml").write_bytes(text)
        told(lambda: load({}, {}, path / "agent.toml"))


@functools.cache
def identity() -> dict[str, bytes]:
    """The files of a frame with two pairs of key and certificate."""
    authority = Authority()
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.issue("frame-1", key.public_key())
    serial = format(certificate.serial_number, "x")
    pair = {"key": private_pem(key), "cert": pem(certificate).encode(), "ca": pem(authority.certificate).encode()}
    return {
        **{f"{kind}.pem": content for kind, content in pair.items()},
        **{f"{kind}-{serial}.pem": content for kind, content in pair.items()},
        "current.json": json.dumps({"pair": serial, "before": ""}).encode(),
        "next-key.pem": pair["key"],
    }


@fuzz(120)
@given(st.data())
def test_an_identity_is_taken_up_or_refused(data: st.DataObject) -> None:
    with folder() as path:
        files = dict(identity())
        for name in data.draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=2, unique=True)):
            damage = hostile([files[name]]) if name.endswith(".json") else damaged([files[name]])
            files[name] = data.draw(damage)
        for name, content in files.items():
            (path / name).write_bytes(content)

        def look() -> None:
            pairs = Pairs(path)
            certified_identity(pairs)
            pairs.current.authorities()

        told(look)


# --- what the agent itself keeps --------------------------------------------------------------------------------------


@functools.cache
def journal() -> Journal:
    slot = Slot(
        release=HASH,
        artifacts=(Installed(kind="base_model", path="base/x.bundle", length=5, sha256=HASH),),
        security_epoch=2,
    )
    return Journal(
        journal_id="0" * 32,
        sequence=9,
        state="trial",
        active="A",
        slot_a=slot,
        slot_b=slot,
        desired_version=4,
        target=HASH,
        lip_errors=(LipError(segment="mandarin", lip_mm=0.3, mean_pose_mm=1.4),),
        figures={"step_p99_ms": 1.5},
        probation=Probation(playbacks=2, healthy_s=3.5),
    )


@functools.cache
def journal_files() -> dict[str, bytes]:
    with folder() as path:
        FileJournal(path / "journal.json").save(journal())
        return {file.name: file.read_bytes() for file in path.iterdir()}


@fuzz(120)
@given(st.data())
def test_a_journal_is_read_from_what_is_left_of_it(data: st.DataObject) -> None:
    """One good copy is enough; without any the frame starts blank and keeps what it could not read."""
    with folder() as path:
        files = dict(journal_files())
        names = data.draw(st.lists(st.sampled_from(sorted(files)), min_size=1, unique=True))
        for name in names:
            files[name] = data.draw(hostile([journal_files()[name]]))
        for name, content in files.items():
            (path / name).write_bytes(content)
        with bounded(30):
            read = FileJournal(path / "journal.json").load()
        if len(names) < len(files):
            assert read is not None
        if read is not None:
            FileJournal(path / "journal.json").save(read)
            assert FileJournal(path / "journal.json").load() == read
        else:
            assert list(path.glob("*.unreadable"))


@functools.cache
def outbox_files() -> dict[str, bytes]:
    with folder() as path:
        outbox = FileOutbox(path, max_bytes=4_096, segment_bytes=1_024)
        for number in range(12):
            outbox.append(health("test", f"Event {number}.", at=number, release=None))
        outbox.discard(3)
        outbox.close()
        return {file.name: file.read_bytes() for file in path.iterdir()}


@fuzz(200)
@given(st.data())
def test_an_outbox_goes_on_after_any_damage(data: st.DataObject) -> None:
    """What can still be read is handed out in order, and a new event gets a number of its own."""
    with folder() as path:
        files = dict(outbox_files())
        for name in data.draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=2, unique=True)):
            damage = hostile([files[name]]) if name.endswith(".json") else damaged([files[name]])
            files[name] = data.draw(damage)
        for name, content in files.items():
            (path / name).write_bytes(content)
        with bounded(30):
            outbox = FileOutbox(path, max_bytes=4_096, segment_bytes=1_024)
            seq = outbox.append(health("after", "The damage is behind us.", at=99, release=None))
            seen: list[AnyEvent] = []
            while events := outbox.peek(5):
                seen += events
                outbox.discard(events[-1].seq)
            outbox.close()
        numbers = [event.seq for event in seen]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == seq
        assert FileOutbox(path, max_bytes=4_096, segment_bytes=1_024).waiting == 0


@fuzz(80)
@given(st.data())
def test_small_files_that_went_bad_are_begun_anew(data: st.DataObject) -> None:
    with folder() as path:
        used = path / "usage.json"
        used.write_bytes(data.draw(hostile([b'{"day":"2026-05-02","bytes":12345}'])))
        documents = FileDocuments(path / "trust")
        (path / "trust" / "clock.json").write_bytes(data.draw(hostile([b'{"at":1777777777777,"root":1}'])))
        (path / "epoch").write_bytes(data.draw(damaged([b"12 %08x\n" % zlib.crc32(b"12")])))
        with bounded(30):
            usage = FileUsage(used)
            assert usage.today(DAY) >= 0
            usage.add(DAY, 5)
            usage.save()
            assert msgspec.json.decode(used.read_bytes())["bytes"] >= 5
            clock = SecurityClock(documents, 1)
            assert clock.floor >= BUILT
            clock.now()
            try:
                assert FileEpoch(path / "epoch").floor() in (0, 12)
            except EpochUnknown as unknown:
                assert unknown.detail.endswith(".")
