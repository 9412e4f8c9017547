"""The outbox: events on disk until the backend has committed them.

Append-only segment files, ``outbox/<first seq>.log``. Appending writes straight through to the operating system, so a
killed process loses nothing. A power cut may take the tail that was not yet flushed, or tear its last line; such a
tail was never sent, because ``peek`` flushes before it hands anything out. Where bytes cannot be read, the numbers that
may have stood there are left out. So numbering under one outbox id never starts again.

``outbox/state.json`` holds the outbox id, the committed watermark and the highest number given away before a drop.
The watermark there may lag behind: then some events are sent twice, which (frame, outbox id, seq) makes harmless.

When it is full, the oldest power samples go first, then whole segments, oldest first; what went is counted in a
HealthEvent of kind ``outbox_gap``.
"""

import errno
import logging
import os
import re
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from device_agent.failures import is_full
from device_agent.ports import wall_clock_ms
from device_agent.storage.disk import disk
from device_agent.storage.files import make_folder, read_file, remove, replace_file, sweep, sync_folder, write_all
from device_agent.storage.memory import MemoryOutbox
from device_agent.storage.segments import (
    BATCH_BYTES,
    GAP,
    Line,
    Segment,
    counted,
    event_in,
    examine,
    is_power,
    pack,
    read_lines,
)
from device_agent.storage.watermark import load_state, save_state
from device_agent.telemetry import health
from protocol.messages import AnyEvent, PowerSample

__all__ = ["FileOutbox", "MemoryOutbox"]

log = logging.getLogger(__name__)

MAX_BYTES = 16 * 1024 * 1024
MAX_EVENTS = 100_000
SEGMENT_BYTES = 256 * 1024
MAX_EVENT_BYTES = 8 * 1024
SAVE_EVERY = 200
"""Committed events after which the watermark is written."""

_SEGMENT = re.compile(r"\d{16}\.log")
_encoder = msgspec.json.Encoder(order="deterministic")


class FileOutbox:
    """Events below ``folder``, bounded in bytes and number. To be used from one thread; holds one segment in memory."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int = MAX_BYTES,
        max_events: int = MAX_EVENTS,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        if max_bytes < 2 * segment_bytes or segment_bytes < 1024:
            raise ValueError("an outbox needs room for two segments of at least 1 KiB")
        self._folder = folder
        self._max_bytes, self._max_events, self._segment_bytes = max_bytes, max_events, segment_bytes
        make_folder(folder)
        sweep(folder)
        self._state_path = folder / "state.json"
        self._state = self._saved = load_state(self._state_path)
        self._handle: int | None = None
        self._dirty = self._suspect = False
        self._head: deque[Line] | None = None
        self._segments: deque[Segment] = deque()
        damaged = self._load_segments()
        last = max((segment.last for segment in self._segments), default=0)
        self._next = max(last, self._state.committed, self._state.given) + 1
        if damaged:
            self._tell_damage(damaged)
        self._forget_committed()

    @property
    def outbox_id(self) -> str:
        return self._state.outbox_id

    @property
    def committed(self) -> int:
        """The watermark."""
        return self._state.committed

    @property
    def waiting(self) -> int:
        """Events that are not committed."""
        if not self._segments:
            return 0
        return len(self._oldest()) + sum(segment.count for segment in list(self._segments)[1:])

    def append(self, event: AnyEvent) -> int:
        """See the port. Raises ValueError for an event that is too large, OSError when the disk fails."""
        text = _encoder.encode(msgspec.structs.replace(event, seq=self._next))
        if len(text) > MAX_EVENT_BYTES:
            raise ValueError(f"an event of {len(text)} bytes exceeds {MAX_EVENT_BYTES}")
        self._make_room(len(text))
        seq = self._next
        self._write(_encoder.encode(msgspec.structs.replace(event, seq=seq)), power=isinstance(event, PowerSample))
        return seq

    def flush(self) -> None:
        if not self._dirty or not self._segments:
            return
        segment = self._segments[-1]
        if self._suspect:
            self._write_anew(segment)
        else:
            self._handle = self._open(segment) if self._handle is None else self._handle
            self._suspect = True
            disk().sync(self._handle)
        self._dirty = self._suspect = False

    def peek(self, limit: int) -> list[AnyEvent]:
        self.flush()
        events: list[AnyEvent] = []
        size = unreadable = 0
        for seq, text in self._oldest():
            if len(events) >= limit or size + len(text) + 1 > BATCH_BYTES:
                break
            try:
                events.append(event_in(text))
            except ValueError as error:
                # Another version of the agent wrote it: nobody could read it, so it must not stop the others.
                log.error("Event %d of the outbox cannot be read any more: %s", seq, error)
                unreadable = seq
                continue
            size += len(text) + 1
        if unreadable and not events:
            self.discard(unreadable)
            return self.peek(limit)
        return events

    def discard(self, through: int) -> None:
        through = min(through, self._next - 1)
        if through <= self._state.committed:
            return
        self._state = msgspec.structs.replace(self._state, committed=through)
        if through - self._saved.committed >= SAVE_EVERY:
            self._save_state()
        while self._head and self._head[0][0] <= through:
            self._head.popleft()
        self._forget_committed()

    def close(self) -> None:
        """Make everything durable, the watermark too, and let go of the file."""
        self._close_active()
        self._save_state()

    # --- files --------------------------------------------------------------------------------------------------------

    def _save_state(self) -> None:
        if self._state != self._saved:
            save_state(self._state_path, self._state)
            self._saved = self._state

    def _load_segments(self) -> int:
        """Returns how many damaged lines stood between good ones, in files that are mended now. One that cannot be
        mended, on a full disk, stays as it is and takes no more events: the frame plays all the same."""
        files = [self._folder / name for name in sorted(disk().names(self._folder)) if _SEGMENT.fullmatch(name)]
        known = max(self._state.committed, self._state.given)
        found = [examine(path, known) for path in files]
        given = max((one.given for one in found), default=0)
        if given > max((one.segment.last for one in found), default=0):
            self._state = msgspec.structs.replace(self._state, given=max(given, self._state.given))
        damaged = 0
        for one in found:
            if one.good is None or self._mend(one.segment, one.good):
                damaged += one.damaged
            self._segments.append(one.segment)
        if self._segments:
            # The agent may have been killed before it flushed, and nobody else will: numbers must not come twice.
            self._dirty = True
        return damaged

    def _mend(self, segment: Segment, good: bytes) -> bool:
        """Take the torn or damaged lines out. False when that cannot be written."""
        try:
            self._save_state()  # first: afterwards nothing tells which numbers stood there
            replace_file(segment.path, good)
        except OSError as error:
            log.error("The outbox's file %s is damaged and cannot be mended: %s", segment.path, error)
            segment.size = max(segment.size, self._segment_bytes)  # which closes it
            return False
        return True

    def _tell_damage(self, damaged: int) -> None:
        try:
            self._record_gap("Lines of the outbox were damaged on disk", {"damaged": damaged})
        except OSError as error:
            log.error("%d damaged events of the outbox are lost, and that cannot be recorded: %s", damaged, error)

    def _oldest(self) -> deque[Line]:
        """Uncommitted events of the oldest segment that has any; kept in memory until they are committed."""
        while self._segments:
            if self._head is None:
                lines, _ = read_lines(self._segments[0].path)
                self._head = deque(line for line in lines if line[0] > self._state.committed)
            if self._head or len(self._segments) == 1:
                return self._head
            self._drop_oldest()
        return deque()

    def _forget_committed(self) -> None:
        # The last segment stays although it is committed: the next events go there, and flash wears out.
        while len(self._segments) > 1 and self._segments[0].last <= self._state.committed:
            self._drop_oldest()

    def _drop_oldest(self) -> Segment:
        segment = self._segments.popleft()
        if not self._segments:
            self._close_active()
        remove(segment.path)
        self._head = None
        return segment

    def _write(self, text: bytes, *, power: bool) -> None:
        seq = self._next
        line = pack(seq, text)
        if not self._segments or self._segments[-1].size + len(line) > self._segment_bytes:
            self._close_active()
            fresh = Segment(self._folder / f"{seq:016d}.log")
            self._handle = self._open(fresh)
            self._segments.append(fresh)
        segment = self._segments[-1]
        if self._handle is None:
            self._handle = self._open(segment)
        try:
            write_all(self._handle, line, segment.size)
        except OSError as error:  # a full disk takes a part: take it back, so that the next line stands alone
            with suppress(OSError):
                disk().truncate(self._handle, segment.size)
            if is_full(error):
                raise OSError(errno.ENOSPC, "the disk is full, so the event was not recorded") from error
            raise
        self._dirty = True
        self._next = seq + 1
        segment.add(seq, len(line), power=power)
        if self._head is not None and len(self._segments) == 1:
            self._head.append((seq, text))

    def _open(self, segment: Segment) -> int:
        handle = disk().open(segment.path, os.O_RDWR | os.O_CREAT)
        try:
            sync_folder(self._folder)
        except OSError:
            disk().close(handle)
            raise
        return handle

    def _close_active(self) -> None:
        self.flush()
        self._let_go()

    def _let_go(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            disk().close(handle)

    def _write_anew(self, segment: Segment) -> None:
        """After a flush that failed the system may take lost bytes for written: only a new file is safe."""
        self._let_go()
        replace_file(segment.path, read_file(segment.path, segment.size))

    # --- full ---------------------------------------------------------------------------------------------------------

    def _make_room(self, needed: int) -> None:
        """When full, free at least a segment at once, so that files are not rewritten for every event."""
        size = sum(segment.size for segment in self._segments)
        count = sum(segment.count for segment in self._segments)
        if size + needed + 64 <= self._max_bytes and count < self._max_events:
            return
        size_goal = self._max_bytes - max(needed, self._segment_bytes)
        count_goal = self._max_events * 9 // 10
        # Numbers that may have been sent must not be given again, even if a cut comes between dropping and the gap.
        self._state = msgspec.structs.replace(self._state, given=self._next - 1)
        self._save_state()
        self._close_active()
        lost: Counter[str] = Counter(power=0, other=0)
        for segment in self._segments:
            if size <= size_goal and count <= count_goal:
                break
            if segment.power:
                freed, dropped = self._drop_power(segment)
                size, count, lost["power"] = size - freed, count - dropped, lost["power"] + dropped
        while self._segments and (size > size_goal or count > count_goal or not self._segments[0].count):
            lost.update(counted(read_lines(self._segments[0].path)[0], self._state.committed))
            gone = self._drop_oldest()
            size, count = size - gone.size, count - gone.count
        self._record_gap("The outbox was full: the backend could not be reached for too long", lost)

    def _drop_power(self, segment: Segment) -> tuple[int, int]:
        """Rewrite the segment without power samples. Returns bytes and events that went."""
        lines, _ = read_lines(segment.path)
        kept = [line for line in lines if not is_power(line[1])]
        data = b"".join(pack(*line) for line in kept)
        replace_file(segment.path, data)
        freed = segment.size - len(data), segment.count - len(kept)
        segment.size, segment.count, segment.power = len(data), len(kept), 0
        self._head = None
        return freed

    def _record_gap(self, why: str, lost: Mapping[str, int]) -> None:
        figures = {name: float(count) for name, count in lost.items()}
        detail = f"{why}; {sum(lost.values())} events are lost."
        event = health(GAP, detail, at=wall_clock_ms(), release=None, figures=figures)
        self._write(_encoder.encode(msgspec.structs.replace(event, seq=self._next)), power=False)
