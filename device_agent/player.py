"""Plays: a photo and a voice with the release that plays, drawn by the renderer, which is a process of its own.

One film at a time. A film and a trial never run together (``quiet``), and the files a film needs stay in the store
while it plays, so an installation changes nothing but the next film.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import UNSET

from device_agent.installer.slots import Slot
from device_agent.ports import wall_clock_ms
from device_agent.renderer.handle import Renderer
from device_agent.renderer.messages import Play, Played, SinkName, Unreadable
from device_agent.renderer.process import RendererDied, RendererRefused
from device_agent.storage.files import replace_file
from device_agent.storage.records import read_record
from device_agent.storage.store import FileStore
from device_agent.telemetry import UNNUMBERED, health, power_sample, random_id, sentence
from protocol.messages import AnyEvent, Complaint, Millis, PlaybackEvent, RandomId, Sha256

log = logging.getLogger(__name__)

FPS = 25
"""As in ``pipeline.canvas``, which needs more than an agent should load."""
RECENT = 50
"""Playbacks that can still be complained about."""
FILMS = 20
"""Films that are kept; the oldest go."""
QUIET_PATIENCE_S = 60.0
SCREEN = "screen.i420"
"""Where raw frames go in the films' folder: one file that the next film overwrites, or a pipe to the frame's panel."""
MAX_FAULTS = 100


class PlayRefused(Exception):
    """There is no film; the message is one sentence that says why. ``busy`` when it is only not the moment."""

    def __init__(self, detail: str, *, busy: bool = False) -> None:
        super().__init__(detail)
        self.busy = busy


class Playback(msgspec.Struct, frozen=True, kw_only=True):
    """One film that was shown."""

    playback_id: RandomId
    at: Millis
    release: Sha256
    out: str
    seconds: float
    first_frame_ms: float
    fps: float
    complained: bool = False


class Player:
    """``playing`` tells the slot that plays, ``record`` takes events, ``played`` hears of each film which release drew
    it, and what brought it down (a sentence) or None when it came to its end; all are called from any thread.
    ``now_ms`` dates films and events.

    A photo or voice that cannot be used is no film, and neither is one that the frame's disk or the end of the agent
    prevents: ``played`` hears nothing of those.
    """

    def __init__(
        self,
        folder: Path,
        store: FileStore,
        playing: Callable[[], Slot | None],
        record: Callable[[AnyEvent], None],
        quiet: threading.Lock,
        renderer: Renderer,
        *,
        played: Callable[[Sha256, str | None], None] = lambda release, crash: None,
        sink: SinkName = "mp4",
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._films = folder / "films"
        self._recent_path = folder / "recent.json"
        self._films.mkdir(parents=True, exist_ok=True)
        for left in self._films.glob("*.partial"):
            left.unlink(missing_ok=True)
        self._store = store
        self._playing = playing
        self._record = record
        self._quiet = quiet
        self._renderer = renderer
        self._played = played
        self._sink: SinkName = sink
        self._now_ms = now_ms
        self._one = threading.Lock()
        self._lock = threading.Lock()
        self._faults: set[tuple[Sha256, str]] = set()
        self._last_fault: str | None = None
        self._running: dict[str, str] | None = None
        self._recent: deque[Playback] = deque(self._load_recent(), maxlen=RECENT)

    @property
    def recent(self) -> list[Playback]:
        """The last films, newest first."""
        with self._lock:
            return list(reversed(self._recent))

    @property
    def runtime(self) -> dict[str, str | None] | None:
        """What the last film ran on (``uses``: "NPU", "CPU" or "NPU and CPU") and the newest fault that made it so
        (``why``, a sentence or None); None before the first film."""
        with self._lock:
            if self._running is None:
                return None
            names = {"rknn": "NPU", "onnx": "CPU"}
            uses = sorted({names.get(runtime, runtime) for runtime in self._running.values()}, reverse=True)
            return {"uses": " and ".join(uses), "why": self._last_fault if "CPU" in uses else None}

    def play(self, photo: Path, voice: Path, out: Path | None = None) -> Playback:
        """Render and show one film; slow. Raises PlayRefused."""
        if not self._one.acquire(blocking=False):
            raise PlayRefused("A film is being played already: wait until it has ended.", busy=True)
        try:
            if not self._quiet.acquire(timeout=QUIET_PATIENCE_S):
                raise PlayRefused("A new release is being tried: play again in a minute.", busy=True)
            try:
                return self._play(photo, voice, out)
            finally:
                self._quiet.release()
        finally:
            self._one.release()

    def complain(self, playback_id: str) -> Playback:
        """The lips did not match in this film; counted once. Raises PlayRefused when it is not among the last ones."""
        with self._lock:
            films = {playback.playback_id: place for place, playback in enumerate(self._recent)}
            if playback_id not in films:
                raise PlayRefused("This film is not among the last ones: play it again, then say so.")
            playback = self._recent[films[playback_id]]
            if playback.complained:
                return playback
            self._recent[films[playback_id]] = msgspec.structs.replace(playback, complained=True)
            self._save_recent()
        self._record(
            Complaint(seq=UNNUMBERED, at=self._now_ms(), release=playback.release, playback_id=playback.playback_id)
        )
        return msgspec.structs.replace(playback, complained=True)

    def close(self) -> None:
        """End a film that is under way, and the renderer."""
        self._renderer.close()

    def _play(self, photo: Path, voice: Path, out: Path | None) -> Playback:
        slot = self._playing()
        if slot is None:
            raise PlayRefused("This frame has no release yet: wait until its first one is installed.")
        playback_id = random_id()
        target = out or self._films / (SCREEN if self._sink == "raw" else f"{playback_id}.mp4")
        with self._store.pinned(*slot.files()):
            film = self._render(slot, playback_id, photo, voice, target)
        seconds = film.frames / FPS
        playback = Playback(
            playback_id=playback_id,
            at=self._now_ms(),
            release=slot.release,
            out=str(target),
            seconds=seconds,
            first_frame_ms=film.first_frame_ms,
            fps=film.fps,
        )
        with self._lock:
            self._running = film.running
            self._recent.append(playback)
            self._save_recent()
        self._record(
            PlaybackEvent(
                seq=UNNUMBERED,
                at=playback.at,
                release=slot.release,
                playback_id=playback_id,
                mode="talking",
                voice_s=seconds,
                video_s=seconds,
                watched_s=seconds,
                completed=True,
                first_frame_ms=film.first_frame_ms,
                fps=film.fps,
                context=film.context or UNSET,
            )
        )
        self._record(power_sample(film.power, at=playback.at, release=slot.release))
        self._played(slot.release, None)
        self._forget_films()
        return playback

    def _render(self, slot: Slot, playback_id: str, photo: Path, voice: Path, out: Path) -> Played:
        adapter = slot.adapter
        request = Play(
            bundle=str(self._store.path(slot.bundle.sha256)),
            adapter=None if adapter is None else str(self._store.path(adapter.sha256)),
            photo=str(photo),
            voice=str(voice),
            out=str(out),
            sink=self._sink,
        )
        try:
            return self._renderer.play(request, lambda detail: self._faulted(slot, detail))
        except Unreadable as error:
            raise PlayRefused(f"The photo, the voice or the film has an odd name ({error}): rename it.") from error
        except RendererRefused as refused:
            detail = str(refused)
            if refused.blame == "input":
                # Nothing is wrong with the frame, but somebody may ask ops about it.
                raise self._refused("playback_refused", slot, detail) from refused
            if refused.blame not in ("disk", "frame"):
                self._broken_off(slot, playback_id, 0, detail)
            raise self._refused("playback_failed", slot, detail) from refused
        except RendererDied as died:
            self._sweep(out)
            if died.kind == "closed":
                raise PlayRefused(str(died), busy=True) from died
            self._broken_off(slot, playback_id, died.frames, str(died))
            raise self._refused("playback_failed", slot, str(died)) from died

    def _broken_off(self, slot: Slot, playback_id: str, frames: int, crash: str) -> None:
        """A film that did not come to its end counts as one that was not watched to its end. Of raw frames the
        household saw what was drawn, of a file nothing; how long the voice is died with the renderer."""
        seconds = frames / FPS
        self._record(
            PlaybackEvent(
                seq=UNNUMBERED,
                at=self._now_ms(),
                release=slot.release,
                playback_id=playback_id,
                mode="talking",
                voice_s=seconds,
                video_s=seconds,
                watched_s=seconds if self._sink == "raw" else 0.0,
                completed=False,
            )
        )
        self._played(slot.release, sentence(crash))

    def _refused(self, kind: str, slot: Slot, detail: str) -> PlayRefused:
        self._record(health(kind, detail, at=self._now_ms(), release=slot.release))
        return PlayRefused(sentence(detail))

    def _faulted(self, slot: Slot, detail: str) -> None:
        """Told once for a release: a renderer that starts anew meets the same fault again."""
        log.warning("%s", detail)
        self._last_fault = detail
        if (slot.release, detail) not in self._faults and len(self._faults) < MAX_FAULTS:
            self._faults.add((slot.release, detail))
            self._record(health("npu_fault", detail, at=self._now_ms(), release=slot.release))

    def _sweep(self, out: Path) -> None:
        """What a killed renderer left of a film."""
        with suppress(OSError):  # how it died must still be told
            out.with_name(out.name + ".partial").unlink(missing_ok=True)

    def _forget_films(self) -> None:
        try:
            films = sorted(self._films.glob("*.mp4"), key=lambda path: path.stat().st_mtime)
            for film in films[:-FILMS]:
                film.unlink(missing_ok=True)
        except OSError as error:
            log.warning("Old films cannot be deleted: %s", error)

    def _load_recent(self) -> list[Playback]:
        try:
            return read_record(self._recent_path.read_bytes(), list[Playback])[-RECENT:]
        except (OSError, ValueError):
            return []  # only a convenience: a film can be played again

    def _save_recent(self) -> None:
        try:
            replace_file(self._recent_path, msgspec.json.encode(list(self._recent)))
        except OSError as error:  # the film was shown and its events have a place of their own
            log.warning("The list of films cannot be saved: %s", error)
