"""Why the engine pauses a rollout or refuses a command: a code with parameters, and one English sentence made of them.

The sentence is for the REST API and the command line; whoever speaks another language translates ``SENTENCES`` by code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Parameter = int | str


class Code(StrEnum):
    """What there is to say."""

    TOO_MANY_FAILED = "too_many_failed"
    NONE_COMMITTED = "none_committed"
    NOT_POSSIBLE = "not_possible"
    NOTHING_POSSIBLE = "nothing_possible"
    LAST_STAGE = "last_stage"
    OWN_PROPOSAL = "own_proposal"
    HARM = "harm"
    """The guardrails: a verdict ROLLBACK."""
    SEASON_OVER = "season_over"
    SUPERSEDED = "superseded"
    EMERGENCY_REASON = "emergency_reason"
    EMPTY_GROUP = "empty_group"
    NO_FRAME_IN_STAGES = "no_frame_in_stages"
    UNDER_WAY = "under_way"
    FITS_NOBODY = "fits_nobody"
    SUPERSEDES_NONE = "supersedes_none"
    NOBODY_FREE = "nobody_free"
    PIN_REASON = "pin_reason"
    PIN_FRAME = "pin_frame"
    NOT_PINNED = "not_pinned"
    FREEZE_REASON = "freeze_reason"
    FROZEN_ALREADY = "frozen_already"
    NOT_FROZEN = "not_frozen"
    # Why a frame does not have the release.
    FRAME_NOT_IN_GROUP = "frame_not_in_group"
    FRAME_AWAITED = "frame_awaited"
    FRAME_RETIRED = "frame_retired"
    FRAME_PINNED = "frame_pinned"
    FRAME_ELSEWHERE = "frame_elsewhere"
    FRAME_HARDWARE = "frame_hardware"
    FRAME_AGENT = "frame_agent"
    FRAME_BASE = "frame_base"
    FRAME_JOINING = "frame_joining"
    FRAME_NO_STAGE = "frame_no_stage"
    FRAME_CONTROL = "frame_control"
    FRAME_HOLDBACK = "frame_holdback"
    FRAME_LATER = "frame_later"
    FRAME_NOT_BEGUN = "frame_not_begun"
    FRAME_OVER = "frame_over"
    FRAME_PAUSED = "frame_paused"
    FRAME_HOURS = "frame_hours"
    FRAME_MOMENT = "frame_moment"
    FRAME_SITE = "frame_site"
    FRAME_RATE = "frame_rate"
    FRAME_AT_ONCE = "frame_at_once"
    FRAME_NEXT = "frame_next"
    FRAME_OFFERED = "frame_offered"
    FRAME_DARK = "frame_dark"
    FRAME_FAILED = "frame_failed"
    FRAME_RETRY = "frame_retry"
    FRAME_WITHDRAWN = "frame_withdrawn"
    FRAME_HAS_IT = "frame_has_it"
    FRAME_RETURNING = "frame_returning"
    FRAME_RETURNED = "frame_returned"
    FRAME_STRANDED = "frame_stranded"
    # What a rollout waits for.
    WAITS_START = "waits_start"
    WAITS_FROZEN = "waits_frozen"
    WAITS_FRAMES = "waits_frames"
    WAITS_DWELL = "waits_dwell"
    WAITS_PERSON = "waits_person"
    WAITS_LOOK = "waits_look"
    WAITS_FRESH_LOOK = "waits_fresh_look"
    WAITS_EVIDENCE = "waits_evidence"
    WAITS_BENEFIT = "waits_benefit"
    # What is wrong with a plan.
    PLAN_UNREADABLE = "plan_unreadable"
    PLAN_POLICY = "plan_policy"
    PLAN_STAGES = "plan_stages"
    PLAN_SHARE = "plan_share"
    PLAN_SHRINKS = "plan_shrinks"
    PLAN_DWELL = "plan_dwell"
    PLAN_METRIC = "plan_metric"
    PLAN_MARGIN = "plan_margin"
    PLAN_RATIO = "plan_ratio"
    PLAN_NO_CONTROL = "plan_no_control"
    PLAN_HOLDBACK = "plan_holdback"
    PLAN_ZONE = "plan_zone"
    PLAN_START_PAST = "plan_start_past"
    PLAN_END = "plan_end"
    PLAN_WINDOW = "plan_window"
    PLAN_BLACKOUT = "plan_blackout"
    PLAN_TIMEOUT = "plan_timeout"
    PLAN_BENEFIT = "plan_benefit"


def gettext_noop(text: str) -> str:
    """Marks a text for translators. Translating is for those who show it: nothing here knows a language."""
    return text


SENTENCES: dict[Code, str] = {
    Code.TOO_MANY_FAILED: gettext_noop(
        "Stage {stage}: {failed} of {frames} frames failed or went back, more than the {allowed} allowed: look at the "
        "failures, then resume, abort or roll back."
    ),
    Code.NONE_COMMITTED: gettext_noop(
        "Stage {stage}: none of its {frames} frames has committed the release: look at the failures, then resume, "
        "abort or roll back."
    ),
    Code.NOT_POSSIBLE: gettext_noop("The rollout is {state}, so {command} is not possible; possible now: {possible}."),
    Code.NOTHING_POSSIBLE: gettext_noop(
        "The rollout is {state}, so {command} is not possible; start a new rollout instead."
    ),
    Code.LAST_STAGE: gettext_noop("Stage {stage} is the last one: there is nothing to advance to."),
    Code.OWN_PROPOSAL: gettext_noop("You proposed this rollout yourself: somebody else has to approve it."),
    Code.HARM: gettext_noop(
        "Stage {stage}: the evidence shows harm in {metric} ({evidence} where {needed} is enough): look at the verdict."
    ),
    Code.SEASON_OVER: gettext_noop("The release was for a season that is over: frames return to their former release."),
    Code.SUPERSEDED: gettext_noop("Rollout {rollout} has taken the place of this one."),
    Code.EMERGENCY_REASON: gettext_noop("An emergency needs a stated reason: say why it cannot wait."),
    Code.EMPTY_GROUP: gettext_noop("The group {group} has no frames: enrol some, or choose another group."),
    Code.NO_FRAME_IN_STAGES: gettext_noop(
        "No frame of the group {group} falls into a stage: it has {frames}, so give larger shares."
    ),
    Code.UNDER_WAY: gettext_noop(
        "Rollout {rollout} ({release}) is under way on frames of the group {group}, such as {frame}: wait for its end, "
        "supersede it, or give this one another priority."
    ),
    Code.FITS_NOBODY: gettext_noop(
        "The release fits none of the {frames} frames of the group {group}, which are {hardware}: choose another "
        "group, or sign a release for this hardware."
    ),
    Code.SUPERSEDES_NONE: gettext_noop(
        "Rollout {rollout} is {state}, so nothing can take its place: leave it out. Only what is under way can be "
        "superseded."
    ),
    Code.NOBODY_FREE: gettext_noop(
        "None of the {frames} frames of the group {group} can take part now: they are pinned, or with other rollouts."
    ),
    Code.PIN_REASON: gettext_noop("A pin needs a stated reason: say why no rollout may touch the frame."),
    Code.PIN_FRAME: gettext_noop("There is no frame {frame} in service: pin one that is."),
    Code.NOT_PINNED: gettext_noop("Frame {frame} is not pinned."),
    Code.FREEZE_REASON: gettext_noop("A freeze needs a stated reason: say why nothing may be offered."),
    Code.FROZEN_ALREADY: gettext_noop("Rollouts are frozen already ({reason}): lift that first."),
    Code.NOT_FROZEN: gettext_noop("Rollouts are not frozen."),
    Code.FRAME_NOT_IN_GROUP: gettext_noop("Frame {frame} is not in the group {group}."),
    Code.FRAME_AWAITED: gettext_noop("Frame {frame} has not been claimed yet."),
    Code.FRAME_RETIRED: gettext_noop("Frame {frame} is retired."),
    Code.FRAME_PINNED: gettext_noop("Frame {frame} is pinned ({reason}): unpin it to let it take part."),
    Code.FRAME_ELSEWHERE: gettext_noop("Frame {frame} is with rollout {rollout} ({release}) until that ends."),
    Code.FRAME_HARDWARE: gettext_noop("The release is for {needed}, and frame {frame} is {hardware}."),
    Code.FRAME_AGENT: gettext_noop("The release needs agent {needed}, and frame {frame} has {agent}."),
    Code.FRAME_BASE: gettext_noop(
        "Frame {frame} lacks the base model {needed}, and this rollout does not let frames fetch one."
    ),
    Code.FRAME_JOINING: gettext_noop("Frame {frame} has just come into the group {group}: its turn is found soon."),
    Code.FRAME_NO_STAGE: gettext_noop("Frame {frame} is in no stage: the release is compared with frames like it."),
    Code.FRAME_CONTROL: gettext_noop(
        "Frame {frame} is a control until stage {stage}: the release is compared with frames like it."
    ),
    Code.FRAME_HOLDBACK: gettext_noop(
        "Frame {frame} is held back until stage {stage}: the release is compared with frames like it."
    ),
    Code.FRAME_LATER: gettext_noop("Frame {frame} is in stage {stage}, which has not opened yet."),
    Code.FRAME_NOT_BEGUN: gettext_noop("The rollout is {state}: frame {frame} is in stage {stage}."),
    Code.FRAME_OVER: gettext_noop("The rollout was {state} before it was the turn of frame {frame}."),
    Code.FRAME_PAUSED: gettext_noop("Frame {frame} waits: the rollout is paused until somebody resumes it."),
    Code.FRAME_HOURS: gettext_noop("Frame {frame} waits for its hours: offers begin there at {time}."),
    Code.FRAME_MOMENT: gettext_noop("Frame {frame} waits for a moment of its own: {time}."),
    Code.FRAME_SITE: gettext_noop("Frame {frame} waits for others at its site {site}, {most} at a time."),
    Code.FRAME_RATE: gettext_noop("Frame {frame} waits for others: {most} frames a minute are offered the release."),
    Code.FRAME_AT_ONCE: gettext_noop("Frame {frame} waits for others: {most} frames install the release at a time."),
    Code.FRAME_NEXT: gettext_noop("Frame {frame} is offered the release next."),
    Code.FRAME_OFFERED: gettext_noop("Frame {frame} was offered the release; its state: {install}."),
    Code.FRAME_DARK: gettext_noop("Frame {frame} was offered the release and has been silent for 24 hours since."),
    Code.FRAME_FAILED: gettext_noop("Frame {frame} did not take the release: {failure}. {detail}"),
    Code.FRAME_RETRY: gettext_noop(
        "Frame {frame} did not take the release: {failure}. It is offered the release again from {time} on."
    ),
    Code.FRAME_WITHDRAWN: gettext_noop("The offer to frame {frame} was taken back."),
    Code.FRAME_HAS_IT: gettext_noop("Frame {frame} runs the release."),
    Code.FRAME_RETURNING: gettext_noop("Frame {frame} was told to return to its former release and has not yet."),
    Code.FRAME_RETURNED: gettext_noop("Frame {frame} has returned to its former release."),
    Code.FRAME_STRANDED: gettext_noop(
        "Frame {frame} keeps the release: nobody knows what it ran before. Pin it to a release to move it."
    ),
    Code.WAITS_START: gettext_noop("It begins at {time}."),
    Code.WAITS_FROZEN: gettext_noop("Rollouts are frozen ({reason}): nothing is offered until somebody lifts that."),
    Code.WAITS_FRAMES: gettext_noop("Stage {stage}: {waiting} of {frames} frames have not answered yet."),
    Code.WAITS_DWELL: gettext_noop("Stage {stage} stays open for {hours} more hours."),
    Code.WAITS_PERSON: gettext_noop("Stage {stage} is done: somebody has to advance the rollout."),
    Code.WAITS_LOOK: gettext_noop("Stage {stage} has not been looked at yet."),
    Code.WAITS_FRESH_LOOK: gettext_noop(
        "Stage {stage}: the newest look at the evidence is {hours} hours old: see whether the workers are running."
    ),
    Code.WAITS_EVIDENCE: gettext_noop("Stage {stage}: not enough evidence yet ({why})."),
    Code.WAITS_BENEFIT: gettext_noop("Stage {stage}: it is not shown yet that the release helps ({metric})."),
    Code.PLAN_UNREADABLE: gettext_noop("The plan cannot be read: {detail}."),
    Code.PLAN_POLICY: gettext_noop("There is no policy {policy}: use {possible}."),
    Code.PLAN_STAGES: gettext_noop("A rollout has 1 to {most} stages: give their shares, such as 0.05, 0.25, 1.0."),
    Code.PLAN_SHARE: gettext_noop("A stage's share is a number above 0 and at most 1: write 5 % as 0.05."),
    Code.PLAN_SHRINKS: gettext_noop(
        "Stage {stage} ({share}) is not larger than stage {former} ({before}): every stage holds the one before it, so "
        "give ascending shares."
    ),
    Code.PLAN_DWELL: gettext_noop("Stage {stage} must stay open for 0 hours or more, and a year at most."),
    Code.PLAN_METRIC: gettext_noop("No margin can be given for {metric}: use {possible}."),
    Code.PLAN_MARGIN: gettext_noop(
        "Stage {stage}: the margin {margin} of {metric} must be above 0: it says how much worse is acceptable."
    ),
    Code.PLAN_RATIO: gettext_noop(
        "Stage {stage}: the margin {margin} of {metric} must be above 1, such as 2 for twice as many."
    ),
    Code.PLAN_NO_CONTROL: gettext_noop(
        "Stage {stage} leaves nobody to compare with: give it a smaller share, a holdback, or another gate."
    ),
    Code.PLAN_HOLDBACK: gettext_noop(
        "A holdback is a share above 0 and below {most} of a rollout whose last stage is everybody."
    ),
    Code.PLAN_ZONE: gettext_noop("The time {time} has no time zone: write it as 2026-12-01T08:00:00+08:00."),
    Code.PLAN_START_PAST: gettext_noop("The start {time} is in the past: give a later one, or none to begin at once."),
    Code.PLAN_END: gettext_noop("The end {time} is not after the start: give a later one, or none."),
    Code.PLAN_WINDOW: gettext_noop("A window that opens when it closes is never open: give two different times."),
    Code.PLAN_BLACKOUT: gettext_noop("A blackout ends before it begins: swap its dates."),
    Code.PLAN_TIMEOUT: gettext_noop("The timeout must be above 0 hours, and a year at most."),
    Code.PLAN_BENEFIT: gettext_noop(
        "A benefit is asked of completion (a fraction from 0 to below 1) or complaint (a ratio above 0 and at most 1), "
        "not of {metric} like this."
    ),
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing to say. ``str()`` is its sentence; ``parameters`` are what ``SENTENCES`` wants for ``code``."""

    code: Code
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __str__(self) -> str:
        return SENTENCES[self.code].format(**self.parameters)

    def as_detail(self) -> dict[str, object]:
        """As an event's detail keeps it, in JSON's types."""
        return {"code": self.code.value, "parameters": dict(self.parameters)}
