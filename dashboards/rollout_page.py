"""The rollout page's words and pictures, from the plain values that ota's selectors give. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext, pgettext_lazy

from dashboards import causes, words
from dashboards.charts import Part, stacked_bar
from dashboards.formats import decimal, duration, share
from ota.selectors import EventRow, RolloutDetail, RolloutSummary, StageDetail
from ota.services.rollouts import ENGINE

GROUPS = (
    ("good", pgettext_lazy("frames", "Succeeded")),
    ("busy", pgettext_lazy("frames", "In flight")),
    ("bad", pgettext_lazy("frames", "Failed")),
    ("lost", pgettext_lazy("frames", "Dark")),
    ("quiet", pgettext_lazy("frames", "Pending")),
)

EVENTS = {
    "proposed": pgettext_lazy("event", "Proposed"),
    "approved": pgettext_lazy("event", "Approved"),
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
    waits: str
    """What the stage waits for, "" for nothing that needs saying."""


def stage_state(rollout: RolloutSummary, stage: StageDetail) -> str:
    if stage.completed_at is not None:
        return "complete"
    # A pause opens no further stage, but frames of an open one go on.
    if rollout.state in ("proposed", "running", "paused"):
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
        waits=_waits(stage.counts["trial"]) if state == "open" else "",
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
    }
    match rollout.state:
        case "proposed":
            return _("Nothing is offered yet: somebody other than its author has to approve the rollout.")
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
class Why:
    """A sentence about why something happened. ``language``: what it is written in where that is known."""

    text: str
    language: str = ""


def why(rollout: RolloutDetail) -> Why:
    """Why the rollout stands still or has ended; empty while it runs."""
    if rollout.state in ("proposed", "running"):
        return Why("")
    last = next((event for event in reversed(rollout.events) if event.kind == rollout.state), None)
    return _why(last) if last is not None and last.reason == rollout.reason else Why(rollout.reason)


def _why(event: EventRow) -> Why:
    if translated := causes.in_detail(event.detail):
        return Why(translated)
    # The engine's own sentences are English; people write in whatever language they like.
    return Why(event.reason, "en" if event.actor == ENGINE else "")


@dataclass(frozen=True)
class TrailEntry:
    """One line of the audit trail. ``facts`` are the event's figures, each in words."""

    at: datetime
    actor: str
    engine: bool
    word: words.Words
    why: Why
    facts: tuple[str, ...]


def trail(events: Sequence[EventRow]) -> list[TrailEntry]:
    """The audit trail, newest first."""
    return [
        TrailEntry(
            at=event.at,
            actor=event.actor,
            engine=event.actor == ENGINE,
            word=EVENTS.get(event.kind, event.kind),
            why=_why(event),
            facts=tuple(_facts(event.detail)),
        )
        for event in reversed(events)
    ]


def _facts(detail: Mapping[str, object]) -> Iterator[str]:
    if (stage := _whole(detail.get("stage"))) is not None:
        yield _("Stage {number}").format(number=stage)
    if (frames := _whole(detail.get("frames"))) is not None:
        yield ngettext("{count} frame", "{count} frames", frames).format(count=decimal(frames, 0))
    if (committed := _whole(detail.get("committed"))) is not None:
        yield _("{count} committed").format(count=decimal(committed, 0))
    if failed := _whole(detail.get("failed")):
        yield _("{count} failed").format(count=decimal(failed, 0))
    if accepted := _whole(detail.get("accepted_failures")):
        yield ngettext("{count} failure accepted", "{count} failures accepted", accepted).format(
            count=decimal(accepted, 0)
        )
    if stay := _whole(detail.get("without_former_release")):
        yield ngettext(
            "{count} frame stays: it had no release before", "{count} frames stay: they had no release before", stay
        ).format(count=decimal(stay, 0))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
