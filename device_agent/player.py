"""Plays: a photo and a voice with the release in the active slot, rendered in a process of its own.

One film at a time. A film and a trial never run together (``quiet``), and the files a film needs stay in the store
while it plays, so an installation changes nothing but the next film.
"""

import logging
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from device_agent.config import PLAYBACK_TIMEOUT_S
from device_agent.files import replace_file
from device_agent.installer.slots import Slot
from device_agent.ports import wall_clock_ms
from device_agent.store import FileStore
from device_agent.telemetry import UNNUMBERED, estimated_power, health, random_id, sentence
from protocol.messages import AnyEvent, Complaint, Millis, PlaybackEvent, RandomId, Sha256

log = logging.getLogger(__name__)

FPS = 25
RECENT = 50
"""Playbacks that can still be complained about."""
FILMS = 20
"""Films that are kept; the oldest go."""
QUIET_PATIENCE_S = 60.0
_PREFIX = "device-agent play: "


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


class _Rendered(msgspec.Struct, frozen=True):
    """The JSON line of ``python -m device_agent play``."""

    first_frame_ms: float
    fps: float
    frames: int
    peak_rss_mb: float


class Player:
    """``playing`` tells the active slot, ``record`` takes events; both may be called from any thread."""

    def __init__(
        self,
        folder: Path,
        store: FileStore,
        playing: Callable[[], Slot | None],
        record: Callable[[AnyEvent], None],
        quiet: threading.Lock,
        timeout_s: float = PLAYBACK_TIMEOUT_S,
    ) -> None:
        self._films = folder / "films"
        self._recent_path = folder / "recent.json"
        self._films.mkdir(parents=True, exist_ok=True)
        self._store = store
        self._playing = playing
        self._record = record
        self._quiet = quiet
        self._timeout_s = timeout_s
        self._one = threading.Lock()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._recent: deque[Playback] = deque(self._load_recent(), maxlen=RECENT)

    @property
    def recent(self) -> list[Playback]:
        """The last films, newest first."""
        with self._lock:
            return list(reversed(self._recent))

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
            Complaint(seq=UNNUMBERED, at=wall_clock_ms(), release=playback.release, playback_id=playback.playback_id)
        )
        return msgspec.structs.replace(playback, complained=True)

    def close(self) -> None:
        """End a rendering that is under way."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()

    def _play(self, photo: Path, voice: Path, out: Path | None) -> Playback:
        slot = self._playing()
        if slot is None:
            raise PlayRefused("This frame has no release yet: wait until its first one is installed.")
        playback_id = random_id()
        target = out or self._films / f"{playback_id}.mp4"
        with self._store.pinned(*slot.files()):
            rendered = self._render(slot, photo, voice, target)
        seconds = rendered.frames / FPS
        playback = Playback(
            playback_id=playback_id,
            at=wall_clock_ms(),
            release=slot.release,
            out=str(target),
            seconds=seconds,
            first_frame_ms=rendered.first_frame_ms,
            fps=rendered.fps,
        )
        with self._lock:
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
                first_frame_ms=rendered.first_frame_ms,
                fps=rendered.fps,
            )
        )
        self._record(estimated_power(seconds, at=playback.at, release=slot.release))
        self._forget_films()
        return playback

    def _render(self, slot: Slot, photo: Path, voice: Path, out: Path) -> _Rendered:
        command = [sys.executable, "-m", "device_agent", "play"]
        command += ["--photo", str(photo), "--voice", str(voice), "--out", str(out)]
        command += ["--bundle", str(self._store.path(slot.bundle.sha256))]
        if slot.adapter is not None:
            command += ["--adapter", str(self._store.path(slot.adapter.sha256))]
        self._process = process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            said, complaints = process.communicate(timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise self._failed(
                slot, f"The film was not ready after {self._timeout_s:.0f} s and was given up."
            ) from None
        finally:
            self._process = None
        lines = complaints.strip().splitlines()
        if process.returncode == 1 and lines and lines[-1].startswith(_PREFIX):
            # The photo or the voice is not usable. Nothing is wrong with the frame, but somebody may ask ops about it.
            raise self._failed(slot, lines[-1].removeprefix(_PREFIX), kind="playback_refused")
        try:
            if process.returncode != 0:
                raise ValueError(lines[-1] if lines else "it said nothing")
            return msgspec.json.decode(said.strip().splitlines()[-1], type=_Rendered)
        except (ValueError, IndexError) as error:
            log.error("The rendering ended with %s: %s", process.returncode, complaints[-2000:])
            raise self._failed(slot, f"The rendering ended with status {process.returncode}: {error}.") from error

    def _failed(self, slot: Slot, detail: str, kind: str = "playback_failed") -> PlayRefused:
        self._record(health(kind, detail, at=wall_clock_ms(), release=slot.release))
        return PlayRefused(sentence(detail))

    def _forget_films(self) -> None:
        films = sorted(self._films.glob("*.mp4"), key=lambda path: path.stat().st_mtime)
        for film in films[:-FILMS]:
            film.unlink(missing_ok=True)

    def _load_recent(self) -> list[Playback]:
        try:
            return msgspec.json.decode(self._recent_path.read_bytes(), type=list[Playback])[-RECENT:]
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return []  # only a convenience: a film can be played again

    def _save_recent(self) -> None:
        replace_file(self._recent_path, msgspec.json.encode(list(self._recent)))
