"""The rollout page's words and pictures, from the plain values that ota's selectors give. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext, pgettext_lazy

from dashboards import words
from dashboards.charts import Part, stacked_bar
from dashboards.formats import duration, share
from ota.selectors import EventRow, RolloutSummary, StageDetail

GROUPS = (
    ("good", pgettext_lazy("frames", "Succeeded")),
    ("busy", pgettext_lazy("frames", "In flight")),
    ("bad", pgettext_lazy("frames", "Failed")),
    ("lost", pgettext_lazy("frames", "Dark")),
    ("quiet", pgettext_lazy("frames", "Pending")),
)

EVENTS = {
    "started": pgettext_lazy("event", "Started"),
    "stage_opened": pgettext_lazy("event", "Stage opened"),
    "stage_completed": pgettext_lazy("event", "Stage complete"),
    "paused": pgettext_lazy("event", "Paused"),
    "resumed": pgettext_lazy("event", "Resumed"),
    "advanced": pgettext_lazy("event", "Advanced"),
    "succeeded": pgettext_lazy("event", "Succeeded"),
    "aborted": pgettext_lazy("event", "Aborted"),
    "rolled_back": pgettext_lazy("event", "Rolled back"),
}


@dataclass(frozen=True)
class Count:
    """How many frames of a stage are in one group of states."""

    tone: str
    word: words.Words
    frames: int


@dataclass(frozen=True)
class StageCard:
    """One stage of the strip."""

    number: int
    share: str
    frames: str
    state: str
    status: words.Status
    counts: tuple[Count, ...]
    bar: SafeString
    time: str


def stage_state(rollout: RolloutSummary, stage: StageDetail) -> str:
    if stage.completed_at is not None:
        return "complete"
    # A pause opens no further stage, but frames of an open one go on.
    if rollout.state in ("running", "paused"):
        return "waiting" if stage.opened_at is None else "open"
    return "stopped"


def strip(rollout: RolloutSummary, now: datetime) -> list[StageCard]:
    return [_card(rollout, stage, now) for stage in rollout.stages]


def _card(rollout: RolloutSummary, stage: StageDetail, now: datetime) -> StageCard:
    state = stage_state(rollout, stage)
    status = words.status(words.STAGE, state)
    figures = (stage.committed, stage.in_flight, stage.failed, stage.dark, stage.counts["pending"])
    counts = tuple(Count(tone, word, frames) for (tone, word), frames in zip(GROUPS, figures, strict=True))
    parts = [Part(c.tone, c.frames, _count_words(c)) for c in counts]
    label = _("Stage {number}: {counts}").format(
        number=stage.number, counts=_(", ").join(_count_words(c) for c in counts if c.frames)
    )
    return StageCard(
        number=stage.number,
        share=share(stage.share),
        frames=ngettext("{frames} frame joins", "{frames} frames join", stage.frames).format(frames=stage.frames),
        state=state,
        status=status,
        counts=counts,
        bar=mark_safe(stacked_bar(label=label, parts=parts)),  # noqa: S308 - charts escape every word
        time=_stage_time(rollout, stage, now),
    )


def _count_words(count: Count) -> str:
    return _("{word}: {frames}").format(word=count.word, frames=count.frames)


def _stage_time(rollout: RolloutSummary, stage: StageDetail, now: datetime) -> str:
    if stage.opened_at is None:
        return _("Not opened yet.") if rollout.ended_at is None else _("Never opened.")
    if stage.completed_at is not None:
        return _("Took {time}.").format(time=duration((stage.completed_at - stage.opened_at).total_seconds()))
    until = rollout.ended_at or now
    return _("Open for {time}.").format(time=duration((until - stage.opened_at).total_seconds()))


def verdict(rollout: RolloutSummary) -> str:
    """One sentence that says where the rollout stands."""
    shown = [stage for stage in rollout.stages if stage.opened_at is not None]
    values = {
        "number": len(shown),
        "stages": len(rollout.stages),
        "release": rollout.release,
        "progress": _progress(shown),
        "reason": rollout.reason,
    }
    match rollout.state:
        case "running" if not shown:
            return _("The first stage is about to open.")
        case "running":
            sentence = _("Stage {number} of {stages}: {progress}")
        case "paused":
            sentence = _("Paused in stage {number} of {stages}: {progress}")
        case "succeeded":
            sentence = _("All stages are complete: {progress}")
        case "aborted":
            sentence = _("Aborted in stage {number} of {stages}, nothing more is offered: {progress}")
        case _:
            sentence = _("Rolled back in stage {number} of {stages}: updated frames return to the release they had.")
    return sentence.format(**values)


def _progress(stages: Sequence[StageDetail]) -> str:
    frames, committed = sum(stage.frames for stage in stages), sum(stage.committed for stage in stages)
    failed, dark = sum(stage.failed for stage in stages), sum(stage.dark for stage in stages)
    text = ngettext(
        "{committed} of {frames} frame has committed", "{committed} of {frames} frames have committed", frames
    ).format(committed=committed, frames=frames)
    text += ngettext("; {failed} failed", "; {failed} failed", failed).format(failed=failed)
    if dark:
        text += ngettext("; {dark} is dark", "; {dark} are dark", dark).format(dark=dark)
    return text + pgettext("end of a sentence", ".")


@dataclass(frozen=True)
class TrailEntry:
    """One line of the audit trail."""

    at: datetime
    actor: str
    engine: bool
    word: words.Words
    reason: str
    frames: int | None
    stage: int | None


def trail(events: Sequence[EventRow]) -> list[TrailEntry]:
    """The audit trail, newest first."""
    return [
        TrailEntry(
            at=event.at,
            actor=event.actor,
            engine=event.actor == "engine",
            word=EVENTS.get(event.kind, event.kind),
            reason=event.reason,
            frames=_whole(event.detail.get("frames")),
            stage=_whole(event.detail.get("stage")),
        )
        for event in reversed(events)
    ]


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
