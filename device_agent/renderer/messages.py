"""What the agent and its renderer say to each other: one JSON object per line, no line longer than ``MAX_LINE``.

The agent asks ``Play`` or ``Measure``. The renderer answers any number of ``Beat`` and ``Fault``, then exactly one of
``Played``, ``Measured``, ``Refused`` and ``Broke``; after ``Broke`` it ends. MB are 2^20 bytes, as the kernel counts.
"""

from typing import Literal, TypeVar

import msgspec

from device_agent.power import PowerFigures
from protocol.messages import LipError

MAX_LINE = 64 * 1024
"""Bytes of a line with its newline: what an empty pipe takes at once, so that asking never blocks."""

SinkName = Literal["mp4", "raw", "none"]
T = TypeVar("T")


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every line begins with."""


class Play(_Line, frozen=True, kw_only=True, tag="play"):
    """One film. All are full paths; a renderer that is warm for the bundle loads only what changed."""

    bundle: str
    adapter: str | None
    photo: str
    voice: str
    out: str
    sink: SinkName = "mp4"


class Measure(_Line, frozen=True, kw_only=True, tag="measure"):
    """One trial: golden clips, then a film of the bundle's own portrait that nobody sees."""

    bundle: str
    adapter: str | None


Request = Play | Measure


class Beat(_Line, frozen=True, kw_only=True, tag="beat"):
    """Work goes on; ``frames`` of the film are drawn."""

    frames: int


class Fault(_Line, frozen=True, kw_only=True, tag="fault"):
    """Something broke and work goes on without it, as after a fault of the NPU; one sentence."""

    detail: str


class Played(_Line, frozen=True, kw_only=True, tag="played"):
    """The film is there. ``first_frame_ms`` counts from the request to the first frame drawn; ``fps`` is frames per
    second from then on; ``memory_mb`` is the renderer's largest resident memory so far; ``running`` is the runtime of
    each stage at the end, ``context`` what photo, voice and runtime were like, in words of
    ``protocol.messages.CONTEXTS``."""

    frames: int
    first_frame_ms: float
    fps: float
    memory_mb: float
    power: PowerFigures
    running: dict[str, str] = {}
    context: dict[str, str] = {}


class Measured(_Line, frozen=True, kw_only=True, tag="measured"):
    """What the trial measured; ``failures`` has one sentence per limit that was missed."""

    lip_errors: tuple[LipError, ...]
    figures: dict[str, float]
    failures: tuple[str, ...]


class Refused(_Line, frozen=True, kw_only=True, tag="refused"):
    """There is no film and no trial; ``detail`` is one sentence.

    ``blame`` is where the cause lies: in what the household gave, in the release, in an adapter that is for another
    base model, in a full disk, or in the frame otherwise (a library is missing).
    """

    detail: str
    blame: Literal["input", "release", "base_model", "disk", "frame"]


class Broke(_Line, frozen=True, kw_only=True, tag="broke"):
    """The renderer met something it was not made for, says it in one sentence, and ends."""

    detail: str
    out_of_memory: bool


Answer = Beat | Fault | Played | Measured | Refused | Broke

_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class Unreadable(ValueError):
    """A line is too long or not what may come here."""


def line(message: Request | Answer) -> bytes:
    """The message as a line. Raises Unreadable when it would be too long, or holds text that no JSON can."""
    try:
        data = _encoder.encode(message) + b"\n"
    except UnicodeEncodeError as error:
        raise Unreadable("a name is not UTF-8") from error
    if len(data) > MAX_LINE:
        raise Unreadable(f"{len(data)} bytes are more than a line may have")
    return data


def read_request(data: bytes) -> Request:
    """A line from the agent. Raises Unreadable."""
    return _read(data, _requests)


def read_answer(data: bytes) -> Answer:
    """A line from the renderer. Raises Unreadable."""
    return _read(data, _answers)


def _read(data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from error
