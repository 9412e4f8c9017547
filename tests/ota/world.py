"""What tests of ota begin with: releases, frames, and what bridge and frames would do."""

import secrets
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from fleet.models import Frame, Household
from fleet.services.reports import record_hello, record_reports
from ota import publication
from ota.models import Deployment, Release, Rollout
from ota.services import artifacts, deployments, releases
from protocol.errors import Reason
from protocol.messages import Failure, Hello, InstallState, ReportedState
from tests.ota.offline import Push

Enrol = Callable[..., list[str]]
"""``enrol``, as a fixture."""

BASE = b"base model " * 20_000  # 215 KiB: four chunks and an index


def push(what: Push) -> Release:
    """Upload the files and create the release."""
    for one in what.files:
        artifacts.store(one.ref.sha256, [one.data])
    return releases.create(what.manifest, what.documents, "eng")[0]


def publish_all() -> list[publication.Pending]:
    """Be the bridge until nothing is pending; returns what was published, in order."""
    sent: list[publication.Pending] = []
    while batch := publication.pending(7):
        sent += batch
        publication.mark_published([one.token for one in batch])
    return sent


def enrol(count: int, prefix: str = "frame", locale: str = "zh") -> list[str]:
    """Make frames, each in a household of its own."""
    ids = [f"{prefix}-{number:04d}" for number in range(count)]
    Household.objects.bulk_create(Household(id=frame_id) for frame_id in ids)
    Frame.objects.bulk_create(
        Frame(
            id=frame_id,
            household_id=frame_id,
            hardware="rk3588",
            locale=locale,
            simulated=True,
            certificate_fingerprint=secrets.token_hex(32),
        )
        for frame_id in ids
    )
    return ids


_sequence = iter(range(1, 10**9))


def report(
    frame_id: str,
    state: InstallState,
    release: str | None,
    *,
    target: str | None = None,
    desired_version: int = 0,
    failure: Failure | None = None,
    only_stored: bool = False,
) -> None:
    """The frame says this, and the bridge stores it and passes it on unless it is stale (or ``only_stored``: its
    Deployment was locked)."""
    told = [(frame_id, _reported(frame_id, state, release, desired_version, target, failure))]
    counted = record_reports(told)
    if not only_stored:
        deployments.on_reports(counted)


def report_all(
    frames: Iterable[str], state: InstallState, release: str, versions: Mapping[str, int] = MappingProxyType({})
) -> None:
    """All of these frames say this, in one batch of the bridge. ``versions``: of the DesiredState that each holds."""
    told = [(frame_id, _reported(frame_id, state, release, versions.get(frame_id, 0))) for frame_id in frames]
    deployments.on_reports(record_reports(told))


def _reported(
    frame_id: str,
    state: InstallState,
    release: str | None,
    desired_version: int,
    target: str | None = None,
    failure: Failure | None = None,
) -> ReportedState:
    return ReportedState(
        frame_id=frame_id,
        journal_id="0" * 32,
        sequence=next(_sequence),
        at=1_800_000_000_000,
        agent_version="1",
        state=state,
        desired_version=desired_version,
        release=release,
        target=target,
        failure=failure,
    )


def hello(frame_id: str, desired_version: int) -> None:
    """The frame says hello and holds this version."""
    record_hello(
        frame_id,
        Hello(
            frame_id=frame_id,
            agent_version="1",
            hardware="rk3588",
            locale="zh",
            outbox_id="0" * 32,
            desired_version=desired_version,
        ),
    )


def offered(rollout: Rollout) -> list[Deployment]:
    """Deployments with an offer that stands."""
    return list(rollout.deployments.filter(offered_at__isnull=False).exclude(state="pending").order_by("frame_id"))


def commit(rollout: Rollout) -> int:
    """All frames in flight install, commit and report. Returns how many."""
    rows = [row for row in offered(rollout) if row.state != "committed"]
    versions = {row.frame_id: row.desired_version for row in rows}
    report_all(versions, "committed", rollout.release_id, versions)
    return len(rows)


def fail(row: Deployment, detail: str = "The disk is full: free some space.") -> None:
    """The frame refuses the release."""
    report(
        row.frame_id,
        "failed",
        None,
        target=row.rollout.release_id,
        desired_version=row.desired_version,
        failure=Failure(reason=Reason.DISK_FULL, detail=detail),
    )
