"""Frames and events for tests."""

from django.contrib.auth.models import User
from msgspec import UNSET, UnsetType

from fleet.models import Frame, Household
from fleet.permissions import Role
from fleet.services.people import set_role
from protocol import messages

OUTBOX = "0123456789abcdef" * 2
PLAYBACK = "fedcba9876543210" * 2
RELEASE = "a" * 64
DAY_MS = 86_400_000


def make_frame(frame_id: str = "frame-1", *, locale: str = "zh", simulated: bool = False, household: str = "") -> Frame:
    home, _ = Household.objects.get_or_create(pk=household or frame_id)
    return Frame.objects.create(
        pk=frame_id,
        household=home,
        hardware="rk3588",
        locale=locale,
        simulated=simulated,
        certificate_fingerprint="0" * 64,
    )


def make_user(name: str = "alice", role: Role | None = Role.ADMIN, password: str | None = None) -> User:
    """Somebody who may do what the role says; without a password they only have tokens."""
    user = User.objects.create_user(name, password=password)
    set_role(user, role, "test")
    return user


def playback(
    seq: int,
    *,
    at: int = DAY_MS,
    completed: bool = True,
    release: str | None = RELEASE,
    playback_id: str = PLAYBACK,
    first_frame_ms: float | None = None,
    context: dict[str, str] | UnsetType = UNSET,
) -> messages.PlaybackEvent:
    return messages.PlaybackEvent(
        seq=seq,
        at=at,
        release=release,
        playback_id=playback_id,
        mode="talking",
        voice_s=4.5,
        video_s=4.5,
        watched_s=4.5 if completed else 1.25,
        completed=completed,
        first_frame_ms=first_frame_ms,
        fps=25.0,
        context=context,
    )


def complaint(
    seq: int, *, at: int = DAY_MS, release: str | None = RELEASE, playback_id: str = PLAYBACK
) -> messages.Complaint:
    return messages.Complaint(seq=seq, at=at, release=release, playback_id=playback_id)


def power(seq: int, *, at: int = DAY_MS, watts: float = 4.75, release: str | None = RELEASE) -> messages.PowerSample:
    return messages.PowerSample(seq=seq, at=at, release=release, window_s=60, total_w=watts, npu_w=1.5)


def health(seq: int, *, at: int = DAY_MS, kind: str = "refusal", detail: str = "why") -> messages.HealthEvent:
    return messages.HealthEvent(seq=seq, at=at, kind=kind, detail=detail, figures={"lost": 3})


def batch(
    *events: messages.AnyEvent, frame_id: str = "frame-1", outbox_id: str = OUTBOX, sent_at: int | UnsetType = UNSET
) -> messages.TelemetryBatch:
    return messages.TelemetryBatch(frame_id=frame_id, outbox_id=outbox_id, sent_at=sent_at, events=list(events))


def hello(frame_id: str = "frame-1", *, desired_version: int = 0, outbox_id: str = OUTBOX) -> messages.Hello:
    return messages.Hello(
        frame_id=frame_id,
        agent_version="1.2.3",
        hardware="rk3588",
        locale="zh",
        desired_version=desired_version,
        outbox_id=outbox_id,
    )


def reported(
    frame_id: str = "frame-1",
    *,
    journal_id: str = "1" * 32,
    sequence: int = 1,
    state: messages.InstallState = "committed",
    failure: messages.Failure | None = None,
) -> messages.ReportedState:
    return messages.ReportedState(
        frame_id=frame_id,
        journal_id=journal_id,
        sequence=sequence,
        at=DAY_MS,
        agent_version="1.2.3",
        state=state,
        desired_version=3,
        release=RELEASE,
        slot="A",
        failure=failure,
        lip_errors=[messages.LipError(segment="mandarin", lip_mm=0.34, mean_pose_mm=1.3, limit_mm=0.8)],
        figures={"step_p99_ms": 4.5, "playbacks": 1.0},
    )
