"""What frames and backend say to each other. JSON by msgspec; unknown fields are tolerated, missing ones refused.

``v`` is the version of the message's meaning: a reader refuses one it does not know. Times are milliseconds since
1970 UTC. Lengths are bytes, hashes are SHA-256 in lower-case hex. Watts are W, durations seconds, lip errors mm.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from protocol.envelope import Envelope
from protocol.errors import Reason
from protocol.limits import MAX_CONTEXT, MAX_EVENTS_PER_BATCH, MAX_OBJECT, MAX_PEM, MAX_TARGETS_PER_RELEASE, MAX_TEXT

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
FrameId = Annotated[str, Meta(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?\Z")]
RandomId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""128 random bits in hex."""
Millis = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
Version = Annotated[int, Meta(ge=0, le=2**53)]
Sentence = Annotated[str, Meta(max_length=MAX_TEXT)]
Word = Annotated[str, Meta(max_length=64)]
Pem = Annotated[str, Meta(min_length=1, max_length=MAX_PEM)]
"""Certificates or a certificate request, in PEM."""
Minutes = Annotated[int, Meta(ge=0, le=1_439)]
"""Of the day, in the frame's own time zone."""
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Watts = Annotated[float, Meta(ge=0, le=1_000)]
ContextWord = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,23}\Z")]
CONTEXTS: dict[str, tuple[str, ...]] = {
    "pose": ("frontal", "turned"),
    "loudness": ("quiet", "normal", "loud"),
    "runtime": ("npu", "cpu", "mixed"),
}
"""The context of a playback, and its words. A newer frame may send others; they are kept with their playback and not
counted. ``device_agent.pipeline.context`` says how a frame finds out."""


class Message(Struct, frozen=True, kw_only=True):
    """What every message begins with."""

    v: Literal[1] = 1


# --- what a frame should run ------------------------------------------------------------------------------------------


class TargetRef(Struct, frozen=True):
    """One file, named the way TUF names it."""

    path: Annotated[str, Meta(min_length=3, max_length=200)]
    length: Annotated[int, Meta(ge=1, le=MAX_OBJECT)]
    sha256: Sha256


class TransferPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When and how much a frame may download for this DesiredState; it plays whatever this says.

    Between ``quiet_from`` and ``quiet_to`` (both or neither; past midnight where from > to) nothing is fetched.
    ``daily_bytes`` bounds the chunks fetched in one day of the frame's own time zone; None for no bound. A release
    whose base model is not on the frame is refused unless ``base_model``: no delta turns into a full model unasked.
    ``http`` is where the same bytes lie at ``{http}/{sha256}`` for Range requests; None for MQTT alone.
    """

    quiet_from: Minutes | None = None
    quiet_to: Minutes | None = None
    daily_bytes: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    base_model: bool = False
    http: Annotated[str, Meta(max_length=300, pattern=r"^https?://")] | None = None


class DesiredState(Message, frozen=True, kw_only=True):
    """What one frame should run, as the director says it; travels inside a signed Envelope.

    ``version`` only grows. ``release`` is the release's manifest, ``targets`` the artifacts it lists; both None/empty
    for a frame that should keep whatever it has.
    """

    frame_id: FrameId
    version: Annotated[int, Meta(ge=1, le=2**53)]
    issued_at: Millis
    expires_at: Millis
    release: TargetRef | None = None
    targets: Annotated[list[TargetRef], Meta(max_length=MAX_TARGETS_PER_RELEASE)] = []
    order: Annotated[int, Meta(ge=1, le=2**53)] | UnsetType = UNSET
    """The version at which this was first asked for; what is only issued anew before it expires keeps it. A release
    that failed or went back is not tried again for the same order."""
    transfer: TransferPolicy | UnsetType = UNSET
    """Not there: no hours, no bounds, base models allowed."""


class RepoHead(Message, frozen=True, kw_only=True):
    """The newest versions in the repository. Unsigned: lying here can only delay a frame until expiry."""

    root: Annotated[int, Meta(ge=1)]
    timestamp: Annotated[int, Meta(ge=1)]
    director_root: Annotated[int, Meta(ge=1)]


# --- what a frame says ------------------------------------------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True):
    """Sent at every connection, and again until an Ack says that it came in."""

    frame_id: FrameId
    agent_version: Word
    hardware: Word
    locale: Word
    desired_version: Version = 0
    """The version of the DesiredState the frame holds; 0 for none. The bridge answers one that is behind."""
    outbox_id: RandomId
    release: Sha256 | None = None
    session: RandomId | UnsetType = UNSET
    """New at every start of an agent. Two that speak by turns under one name are two frames with one identity."""


InstallState = Literal["idle", "downloading", "verifying", "staged", "trial", "committed", "reverted", "failed"]


class Failure(Struct, frozen=True):
    """Why the frame refused or went back."""

    reason: Reason
    detail: Sentence


class LipError(Struct, frozen=True):
    """Lip error on the golden clips of one segment, with the mean pose beside it."""

    segment: Word
    lip_mm: float
    mean_pose_mm: float
    limit_mm: float | None = None


class ReportedState(Message, frozen=True, kw_only=True):
    """What a frame says it runs. ``(journal_id, sequence)`` orders reports, so a late one never overwrites a newer."""

    frame_id: FrameId
    journal_id: RandomId
    sequence: Version
    at: Millis
    agent_version: Word
    state: InstallState
    desired_version: Version
    release: Sha256 | None = None
    """SHA-256 of the manifest of the release that plays now."""
    slot: Literal["A", "B"] | None = None
    target: Sha256 | None = None
    """The release on its way, while there is one; after reverted or failed, the one that did not make it."""
    failure: Failure | None = None
    lip_errors: Annotated[list[LipError], Meta(max_length=32)] = []
    """What the last trial measured."""
    figures: Annotated[dict[str, float], Meta(max_length=32)] = {}
    """The rest of what it measured, by name with unit (``step_p99_ms``, ``memory_mb``), and how far it has come."""


class Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every event begins with. ``seq`` grows by at least one within an outbox; ``release`` is the one playing."""

    seq: Annotated[int, Meta(ge=1, le=2**53)]
    at: Millis
    release: Sha256 | None = None


class PlaybackEvent(Event, frozen=True, kw_only=True, tag="playback"):
    """One film shown. Completed = watched to its end."""

    playback_id: RandomId
    mode: Literal["talking", "singing", "slideshow"]
    voice_s: Seconds
    video_s: Seconds
    watched_s: Seconds
    completed: bool
    first_frame_ms: Annotated[float, Meta(ge=0, le=1e7)] | None = None
    fps: Annotated[float, Meta(ge=0, le=1e4)] | None = None
    context: Annotated[dict[ContextWord, ContextWord], Meta(max_length=MAX_CONTEXT)] | UnsetType = UNSET
    """In words of ``CONTEXTS`` what the film was made of; neither photo nor voice ever leaves a frame."""


class Complaint(Event, frozen=True, kw_only=True, tag="complaint"):
    """Somebody pressed "lips don't match" on this playback."""

    playback_id: RandomId
    kind: Literal["lips"] = "lips"


class PowerSample(Event, frozen=True, kw_only=True, tag="power"):
    """Mean power over a window. ``estimated`` where no meter exists."""

    window_s: Seconds
    total_w: Watts
    npu_w: Watts | None = None
    cpu_w: Watts | None = None
    battery_percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    estimated: bool = False


class HealthEvent(Event, frozen=True, kw_only=True, tag="health"):
    """Something ops should know: a refusal, a fault, a gap in the outbox."""

    kind: Word
    detail: Sentence
    figures: Annotated[dict[str, float], Meta(max_length=32)] = {}


AnyEvent = PlaybackEvent | Complaint | PowerSample | HealthEvent


class TelemetryBatch(Message, frozen=True, kw_only=True):
    """Events of one outbox in ascending ``seq``. (frame, outbox_id, seq) makes redelivery harmless."""

    frame_id: FrameId
    outbox_id: RandomId
    sent_at: Millis | UnsetType = UNSET
    """What the clock that dates the events said when this was sent: the backend learns by how much it is wrong."""
    events: Annotated[list[AnyEvent], Meta(min_length=1, max_length=MAX_EVENTS_PER_BATCH)]


# --- what a frame asks for, and what it is answered -------------------------------------------------------------------


class TimeRequest(Message, frozen=True, kw_only=True, tag_field="type", tag="time"):
    """A frame without a clock it can trust asks what time it is."""

    frame_id: FrameId
    nonce: RandomId


class CertificateRequest(Message, frozen=True, kw_only=True, tag_field="type", tag="certificate"):
    """A frame asks for its next certificate. Of ``csr`` only the public key is read; the private one stays there."""

    frame_id: FrameId
    nonce: RandomId
    csr: Pem


AnyRequest = TimeRequest | CertificateRequest


class SignedTime(Message, frozen=True, kw_only=True):
    """What time it was when ``nonce`` came in; the payload of an Envelope under the director's key."""

    nonce: RandomId
    at: Millis


class TimeAnswer(Message, frozen=True, kw_only=True, tag_field="type", tag="time"):
    """``time`` holds a SignedTime."""

    nonce: RandomId
    time: Envelope


class CertificateAnswer(Message, frozen=True, kw_only=True, tag_field="type", tag="certificate"):
    """The frame's next certificate (any intermediate after it), and the authorities it should trust from now on."""

    nonce: RandomId
    certificate: Pem
    ca: Pem


class RefusedAnswer(Message, frozen=True, kw_only=True, tag_field="type", tag="refused"):
    """The request was not granted."""

    nonce: RandomId
    detail: Sentence


AnyAnswer = TimeAnswer | CertificateAnswer | RefusedAnswer


# --- what the backend answers -----------------------------------------------------------------------------------------


class Ack(Message, frozen=True, kw_only=True):
    """Everything of ``outbox_id`` up to ``seq`` is committed and may be deleted.

    ``desired_version`` is the newest one meant for this frame: a frame that holds less has missed something.
    """

    outbox_id: RandomId
    seq: Version
    desired_version: Version
    hello: bool | UnsetType = UNSET
    """True when a Hello came in and is answered hereby; an Ack for events alone does not have it."""
    renew: bool | UnsetType = UNSET
    """True when the frame should ask for a new certificate now (the fleet's authority changes)."""
