"""The rollout's trail in words: people and engine alike, newest first. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext_lazy

from dashboards import causes, words
from dashboards.formats import decimal
from dashboards.kept_looks import Kept, kept
from ota.selectors import EventRow
from ota.services.rollouts import ENGINE

EVENTS = {
    "drafted": pgettext_lazy("event", "Drafted"),
    "changed": pgettext_lazy("event", "Changed"),
    "proposed": pgettext_lazy("event", "Proposed"),
    "approved": pgettext_lazy("event", "Approved"),
    "scheduled": pgettext_lazy("event", "Scheduled"),
    "started": pgettext_lazy("event", "Started"),
    "stage_opened": pgettext_lazy("event", "Stage opened"),
    "stage_completed": pgettext_lazy("event", "Stage complete"),
    "paused": pgettext_lazy("event", "Paused"),
    "resumed": pgettext_lazy("event", "Resumed"),
    "advanced": pgettext_lazy("event", "Advanced"),
    "succeeded": pgettext_lazy("event", "Succeeded"),
    "aborted": pgettext_lazy("event", "Aborted"),
    "rolling_back": pgettext_lazy("event", "Told to roll back"),
    "rolled_back": pgettext_lazy("event", "Rolled back"),
    "superseded": pgettext_lazy("event", "Superseded"),
    "commented": pgettext_lazy("event", "Comment"),
    "acknowledged": pgettext_lazy("event", "Verdict acknowledged"),
}


@dataclass(frozen=True)
class Why:
    """A sentence about why something happened. ``language``: what it is written in where that is known."""

    text: str
    language: str = ""


def why_of(event: EventRow) -> Why:
    """The event's reason in the reader's language where the engine gave it."""
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
    number: int
    evidence: Kept | None
    """The look behind the engine's decision, where there was one."""


def trail(events: Sequence[EventRow]) -> list[TrailEntry]:
    """The audit trail, newest first."""
    return [
        TrailEntry(
            at=event.at,
            actor=event.actor,
            engine=event.actor == ENGINE,
            word=EVENTS.get(event.kind, event.kind),
            why=why_of(event),
            facts=tuple(_facts(event.detail)),
            number=number,
            evidence=kept(event.detail.get("look")),
        )
        for number, event in reversed(list(enumerate(events, start=1)))
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
    if silent := _whole(detail.get("silent")):
        yield ngettext("{count} silent", "{count} silent", silent).format(count=decimal(silent, 0))
    if stay := _whole(detail.get("without_former_release")):
        yield ngettext(
            "{count} frame stays: it had no release before", "{count} frames stay: they had no release before", stay
        ).format(count=decimal(stay, 0))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
