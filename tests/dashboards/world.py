"""A small fleet in the database: a group of Mandarin frames in the second stage of a rollout, and people's days."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from django.utils import timezone

from fleet.models import Frame, FrameDay, FrameGroup, HealthEvent, Household, Playback, ReportedState
from ota import keys
from ota.domain.assignment import arm, household_number, stage_of
from ota.models import Deployment, Release, Rollout, RolloutEvent, RolloutStage
from ota.services import director

SHARES = (0.05, 0.25, 1.0)
BASE, FIX = "a" * 64, "b" * 64
REFUSAL = "The golden clip mandarin-2 measured 0.91 mm, over 0.80 mm."


@dataclass(frozen=True)
class World:
    """What the tests look for."""

    base: Release
    fix: Release
    group: FrameGroup
    rollout: Rollout
    frames: tuple[Frame, ...]
    failed: Frame


def make_release(digest: str, version: str) -> Release:
    return Release.objects.create(
        digest=digest,
        name="talking-portrait",
        version=version,
        manifest={"targets": []},
        path=f"release/talking-portrait-{version}.json",
        length=1000,
        created_by="mo",
    )


def make_frame(name: str, *, locale: str = "zh", simulated: bool = True, seen: datetime | None = None) -> Frame:
    household, _ = Household.objects.get_or_create(id=f"home-{name}")
    return Frame.objects.create(
        id=name,
        household=household,
        hardware="rk3588",
        locale=locale,
        simulated=simulated,
        certificate_fingerprint="c" * 64,
        last_seen=seen,
        agent_version="0.1.0",
        desired_version=1,
    )


def report(
    frame: Frame, release: str, state: str = "committed", *, mandarin: float = 0.64, refusal: str = ""
) -> ReportedState:
    now = timezone.now()
    return ReportedState.objects.create(
        frame=frame,
        journal_id="d" * 32,
        sequence=1,
        at=now,
        state=state,
        desired_version=1,
        release=release,
        slot="A",
        received_at=now,
        lip_errors=[
            {"segment": "base", "lip_mm": 0.31, "mean_pose_mm": 1.29, "limit_mm": 0.8},
            {"segment": "mandarin", "lip_mm": mandarin, "mean_pose_mm": 1.24, "limit_mm": 0.8},
        ],
        target=FIX if refusal else "",
        failure_reason="trial_failed" if refusal else "",
        failure_detail=refusal,
    )


def play(frame: Frame, seq: int, received: datetime, at: datetime) -> None:
    Playback.objects.create(
        frame=frame,
        outbox_id=uuid4(),
        seq=seq,
        at=at,
        received_at=received,
        playback_id=uuid4(),
        mode="talking",
        voice_s=4,
        video_s=4,
        watched_s=4,
        completed=True,
    )


def make_world(zh: int = 40, other: int = 12, days: int = 8, now: datetime | None = None) -> World:
    """``zh`` frames in the rollout's group and ``other`` frames beside them, the last of them not simulated."""
    now = now or datetime.now(UTC)
    people = random.Random(7)
    base, fix = make_release(BASE, "1.0"), make_release(FIX, "1.1")
    group = FrameGroup.objects.create(name="mandarin", query="locale=zh")
    started = now - timedelta(hours=50)
    opened = [started, now - timedelta(hours=26), None]
    rollout = Rollout.objects.create(
        release=fix, group=group, salt="salt", current_stage=2, revision=7, created_by="rosa", created_at=started
    )
    for place, (share, at) in enumerate(zip(SHARES, opened, strict=True), 1):
        closed = opened[1] if place == 1 else None
        RolloutStage.objects.create(rollout=rollout, number=place, share=share, opened_at=at, completed_at=closed)
    frames = [make_frame(f"zh-{n:03}", seen=now) for n in range(zh)]
    others = [make_frame(f"en-{n:03}", locale="en", simulated=n < other - 1, seen=now) for n in range(other)]
    failed: Frame | None = None
    lived: list[FrameDay] = []
    for frame in frames:
        u = household_number("salt", frame.household_id)
        number = stage_of(u, SHARES)
        offered = number is not None and number <= 2
        state = people.choice(("committed", "committed", "downloading", "trial")) if offered else "pending"
        if number == 1:
            state = "committed"
        refusal = ""
        if offered and number == 2 and failed is None:
            failed, state = frame, "reverted"
            refusal = REFUSAL
        Deployment.objects.create(
            rollout=rollout,
            frame=frame,
            stage=number,
            arm=arm(u, SHARES),
            u=u,
            state=state,
            former_release=base,
            offered_at=now if offered else None,
            reason="trial_failed" if refusal else "",
            detail=refusal,
        )
        fixed = state == "committed"
        if refusal:
            report(frame, BASE, "reverted", refusal=refusal)
        else:
            report(frame, FIX if fixed else BASE, "committed" if fixed else "idle", mandarin=0.34 if fixed else 0.64)
        lived += [_day(people, frame, now - timedelta(days=d), improved=fixed and d < 2) for d in range(days)]
    assert failed is not None
    keys.make_missing()
    director.set_desired([frame.pk for frame in (*frames, *others)], base)
    director.set_desired(rollout.deployments.filter(stage__lte=2).values_list("frame_id", flat=True), fix)
    for frame in others:
        report(frame, BASE, "idle")
        lived += [_day(people, frame, now - timedelta(days=d), improved=False) for d in range(days)]
    FrameDay.objects.bulk_create(lived)
    HealthEvent.objects.create(
        frame=others[0],
        outbox_id=uuid4(),
        seq=4,
        at=now,
        received_at=now,
        kind="disk_full",
        detail="12 MB are free and 40 MB are needed: remove photos from the frame.",
    )
    trail = [
        ("rosa", "started", "Mandarin households complain about lips", {"frames": zh}),
        ("engine", "stage_opened", "", {"stage": 1, "frames": 2}),
        ("engine", "stage_completed", "", {"stage": 1}),
        ("engine", "stage_opened", "", {"stage": 2, "frames": 8}),
    ]
    for minute, (actor, kind, reason, more) in enumerate(trail):
        RolloutEvent.objects.create(
            rollout=rollout,
            actor=actor,
            kind=kind,
            reason=reason,
            detail=more,
            at=started + timedelta(minutes=minute),
        )
    return World(base, fix, group, rollout, (*frames, *others), failed)


def _day(people: random.Random, frame: Frame, at: datetime, *, improved: bool) -> FrameDay:
    playbacks = people.randint(2, 9)
    likely = 0.8 if improved or frame.locale == "en" else 0.7
    return FrameDay(
        frame=frame,
        day=at.date(),
        release=FIX if improved else BASE,
        playbacks=playbacks,
        completed=sum(people.random() < likely for _ in range(playbacks)),
        complaints=sum(people.random() < (0.004 if improved else 0.02) for _ in range(playbacks)),
        power_sum_w=sum(people.gauss(4.8, 0.3) for _ in range(playbacks)),
        power_samples=playbacks,
    )
