"""The strip of a rollout's stages: share, frames by state, gate, margins, and the time each has taken or still takes.
Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext_lazy

from dashboards import effects, words
from dashboards.charts import Part, stacked_bar
from dashboards.formats import decimal, duration, share
from dashboards.words_verdict import GATE
from ota.domain.plan import Plan, StagePlan
from ota.selectors import RolloutSummary, StageDetail

GROUPS = (
    ("good", pgettext_lazy("frames", "Succeeded")),
    ("busy", pgettext_lazy("frames", "In flight")),
    ("bad", pgettext_lazy("frames", "Failed")),
    ("lost", pgettext_lazy("frames", "Dark")),
    ("quiet", pgettext_lazy("frames", "Pending")),
    ("warn", pgettext_lazy("frames", "Returning")),
    ("back", pgettext_lazy("frames", "Returned")),
)
ONLY_WHEN_ANY = frozenset({"warn", "back"})
"""Groups that a rollout has only once it is rolled back."""
GOING_ON = ("draft", "proposed", "scheduled", "running", "paused")


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
    waits: str
    """What the stage waits for, "" for nothing that needs saying."""
    gate: words.Words
    """What the next stage waits for; "" for the last, which has no next."""
    margins: tuple[str, ...]


def stage_state(rollout: RolloutSummary, stage: StageDetail) -> str:
    if stage.completed_at is not None:
        return "complete"
    # A pause opens no further stage, but frames of an open one go on.
    if rollout.state in GOING_ON:
        return "waiting" if stage.opened_at is None else "open"
    return "stopped"


def strip(rollout: RolloutSummary, now: datetime, plan: Plan | None = None) -> list[StageCard]:
    """The cards in order. Without ``plan`` they say nothing of dwell and margins."""
    steps: Sequence[StagePlan | None] = plan.steps() if plan is not None else ()
    steps = [*steps, *[None] * (len(rollout.stages) - len(steps))]
    return [_card(rollout, stage, step, now) for stage, step in zip(rollout.stages, steps, strict=False)]


def _card(rollout: RolloutSummary, stage: StageDetail, step: StagePlan | None, now: datetime) -> StageCard:
    state = stage_state(rollout, stage)
    figures = (
        stage.committed,
        stage.in_flight,
        stage.failed,
        stage.dark,
        stage.counts["pending"],
        stage.counts.get("returning", 0),
        stage.counts.get("returned", 0),
    )
    counts = tuple(
        Count(tone, word, frames)
        for (tone, word), frames in zip(GROUPS, figures, strict=True)
        if frames or tone not in ONLY_WHEN_ANY
    )
    label = _("Stage {number}: {counts}").format(
        number=stage.number, counts=_(", ").join(_count_words(c) for c in counts if c.frames)
    )
    bar = stacked_bar(label=label, parts=[Part(c.tone, c.frames, _count_words(c)) for c in counts])
    last = stage.number == len(rollout.stages)
    return StageCard(
        number=stage.number,
        share=share(stage.share),
        frames=ngettext("{frames} frame joins", "{frames} frames join", stage.frames).format(frames=stage.frames),
        state=state,
        status=words.status(words.STAGE, state),
        counts=counts,
        bar=mark_safe(bar),  # noqa: S308 - charts escape every word
        time=_stage_time(rollout, stage, step, now),
        waits=_waits(stage.counts["trial"]) if state == "open" else "",
        gate="" if last else GATE.get(stage.gate, stage.gate),
        margins=effects.margins(step.margins) if step else (),
    )


def _count_words(count: Count) -> str:
    return _("{word}: {frames}").format(word=count.word, frames=count.frames)


def _waits(on_trial: int) -> str:
    if not on_trial:
        return ""
    return ngettext(
        "{frames} frame is in trial: it commits after enough playbacks or healthy hours without a crash.",
        "{frames} frames are in trial: they commit after enough playbacks or healthy hours without a crash.",
        on_trial,
    ).format(frames=decimal(on_trial, 0))


def _stage_time(rollout: RolloutSummary, stage: StageDetail, step: StagePlan | None, now: datetime) -> str:
    if stage.opened_at is None:
        if rollout.ended_at is not None:
            return _("Never opened.")
        planned = step.dwell_h if step else 0.0
        if not planned:
            return _("Not opened yet.")
        return _("Not opened yet; it stays open for {time} at least.").format(time=duration(planned * 3600))
    if stage.completed_at is not None and not _left(rollout, stage, step, now):
        return _("Took {time}.").format(time=duration((stage.completed_at - stage.opened_at).total_seconds()))
    until = rollout.ended_at or now
    open_for = _("Open for {time}.").format(time=duration((until - stage.opened_at).total_seconds()))
    left = _left(rollout, stage, step, now)
    if not left:
        return open_for
    return _("{open_for} {left}").format(
        open_for=open_for, left=_("Stays open for {time} more at least.").format(time=duration(left))
    )


def _left(rollout: RolloutSummary, stage: StageDetail, step: StagePlan | None, now: datetime) -> float:
    """Seconds of the dwell that are left; 0 where the rollout does not wait for it."""
    if step is None or stage.opened_at is None or rollout.ended_at is not None or stage.number != rollout.current_stage:
        return 0.0
    return max(0.0, (stage.opened_at + timedelta(hours=step.dwell_h) - now).total_seconds())
