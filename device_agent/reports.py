"""What the frame says about itself, built from its journal."""

from device_agent.installer.slots import Journal
from device_agent.ports import FrameIdentity
from protocol.messages import Hello, ReportedState


def release_of(journal: Journal) -> str | None:
    """Digest of the release that plays, None on a blank frame."""
    return journal.playing.release if journal.playing is not None else None


def hello(identity: FrameIdentity, journal: Journal, outbox_id: str) -> Hello:
    """The Hello of this moment."""
    return Hello(
        frame_id=identity.frame_id,
        agent_version=identity.agent_version,
        hardware=identity.hardware,
        locale=identity.locale,
        desired_version=journal.desired_version,
        outbox_id=outbox_id,
        release=release_of(journal),
    )


def reported_state(identity: FrameIdentity, journal: Journal, at: int) -> ReportedState:
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
        slot=journal.active,
        target=journal.target,
        failure=journal.failure,
        lip_errors=list(journal.lip_errors),
    )
