"""What the frame says about itself, built from its journal."""

import math

from device_agent.installer.slots import Journal
from device_agent.ports import FrameIdentity, TrialPolicy
from device_agent.transfer.meter import Progress
from protocol.messages import Hello, ReportedState


def release_of(journal: Journal) -> str | None:
    """Digest of the release that plays, None on a blank frame."""
    return journal.playing.release if journal.playing is not None else None


def hello(identity: FrameIdentity, journal: Journal, outbox_id: str, session: str) -> Hello:
    """The Hello of this moment; ``session`` is new at every start of the agent."""
    return Hello(
        frame_id=identity.frame_id,
        agent_version=identity.agent_version,
        hardware=identity.hardware,
        locale=identity.locale,
        desired_version=journal.desired_version,
        outbox_id=outbox_id,
        release=release_of(journal),
        session=session,
    )


def figures(journal: Journal, policy: TrialPolicy) -> dict[str, float]:
    """What the last trial measured; on probation also how far it has come and what it needs."""
    measured = dict(journal.figures)
    if journal.probation is not None:
        needed = {"playbacks_needed": float(policy.playbacks), "healthy_h_needed": policy.healthy_s / 3_600}
        measured |= journal.probation.figures | needed
    return {name: value for name, value in measured.items() if math.isfinite(value)}


def reported_state(
    identity: FrameIdentity, journal: Journal, policy: TrialPolicy, progress: Progress, at: int
) -> ReportedState:
    """The report of this moment; ``at`` in ms since 1970 UTC."""
    return ReportedState(
        frame_id=identity.frame_id,
        journal_id=journal.journal_id,
        sequence=journal.sequence,
        at=at,
        agent_version=identity.agent_version,
        state=journal.state,
        desired_version=journal.desired_version,
        release=release_of(journal),
        slot=journal.playing_slot,
        target=journal.target,
        failure=journal.failure,
        lip_errors=list(journal.lip_errors),
        figures=figures(journal, policy) | (progress.figures if journal.state == "downloading" else {}),
    )
