"""What a rollout would do, before it starts: its preview in words. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from dashboards import causes, effects, words
from dashboards.formats import decimal, duration, percent, share
from dashboards.words_verdict import GATE_NAME, guardrail
from ota.domain.analysis.preview import Shortage
from ota.domain.plan import GateKind
from ota.selectors_forecast import SHORT_HISTORY, Forecast, StageHours
from ota.selectors_preview import ExcludedFrames, Preview, StagePreview


@dataclass(frozen=True)
class StageLine:
    """One stage of the preview."""

    number: int
    share: str
    frames: str
    canaries: str
    controls: str
    gate: words.Words
    dwell: str
    expected: str
    """When a harmless release would go on, and what that takes longest; "" where nobody can say."""
    margins: tuple[str, ...]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class LeftOut:
    """Frames that are left out, and why: said of the first of them."""

    sentence: str
    frames: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Previewed:
    """All that the page shows; ``refused`` is why it cannot start, "" where nothing is known against it."""

    refused: str
    total: str
    stages: tuple[StageLine, ...]
    excluded: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    facts: tuple[str, ...]
    expects: bool


def previewed(found: Preview) -> Previewed:
    """The preview in words."""
    refused = ""
    if found.refused is not None:
        refused = causes.explained(found.refused_code or "", found.refused_parameters, found.refused)
    forecast = found.forecast
    hours = {stage.number: stage for stage in forecast.stages} if forecast else {}
    return Previewed(
        refused=refused,
        total=_total(found),
        stages=tuple(
            _stage(stage, hours.get(stage.number), last=stage.number == len(found.stages)) for stage in found.stages
        ),
        excluded=tuple(_excluded(one) for one in found.excluded),
        warnings=_warnings(forecast) if forecast else (),
        facts=(*_brings(found), *(_facts(forecast) if forecast else ())),
        expects=bool(hours),
    )


def _brings(found: Preview) -> Iterator[str]:
    if found.agent:
        yield _("The release brings agent {version}: frames change over to it with the rest.").format(
            version=found.agent
        )


def _warnings(forecast: Forecast) -> tuple[str, ...]:
    """Why no verdict is to be expected, and what to use instead."""
    if forecast.enough:
        return ()
    said = forecast.warning
    if forecast.warning_code in WARNINGS:
        parameters = {name: _parameter(name, value) for name, value in forecast.warning_parameters.items()}
        try:
            said = str(WARNINGS[forecast.warning_code]).format(**parameters)
        except (KeyError, IndexError):
            said = forecast.warning
    instead = INSTEAD.get(forecast.instead or "")
    return (said,) if instead is None else (said, str(instead))


def _parameter(name: str, value: int | str) -> str:
    return str(_longest(str(value))).lower() if name == "metric" else str(value)


def _longest(name: str) -> words.Words:
    return BOTTLENECK.get(name) or guardrail(name)


def _facts(forecast: Forecast) -> Iterator[str]:
    """What is to be expected of a harmless release, and of clearly harmful ones."""
    if not forecast.stages:
        return
    yield _("From {days} days of this group's past: {share} of harmless releases would be promoted in time.").format(
        days=forecast.history_days, share=percent(forecast.promoted, 0)
    )
    if forecast.hours_median is not None and forecast.hours_high is not None:
        yield _("Until the last verdict: {time} in the middle, {high} in 9 of 10 cases.").format(
            time=_hours(forecast.hours_median), high=_hours(forecast.hours_high)
        )
    elif forecast.hours_median is not None:
        yield _("Until the last verdict: {time} in the middle; more than 1 in 10 reach none in time.").format(
            time=_hours(forecast.hours_median)
        )
    for harm in forecast.harms:
        yield _("Clear harm ({metric} {effect}): {share} are rolled back, after {time} in the middle.").format(
            metric=guardrail(harm.metric),
            effect=effects.effect(harm.metric, harm.effect),
            share=percent(harm.rolled_back, 0),
            time=_hours(harm.hours_median),
        )


def _hours(hours: float | None) -> str:
    return _("longer than a rollout lasts") if hours is None else duration(round(hours) * 3600)


def _expected(stage: StageHours | None) -> str:
    if stage is None:
        return ""
    if stage.hours_median is None:
        return _("no verdict: {metric} takes longest").format(metric=_longest(stage.bottleneck))
    if stage.hours_high is None:
        return _("{time} in the middle, some never; {metric} takes longest").format(
            time=_hours(stage.hours_median), metric=_longest(stage.bottleneck)
        )
    return _("{time} (9 of 10: {high}); {metric} takes longest").format(
        time=_hours(stage.hours_median), high=_hours(stage.hours_high), metric=_longest(stage.bottleneck)
    )


WARNINGS: dict[str, words.Words] = {
    Shortage.TOO_SMALL: gettext_lazy(
        "{frames} frames are too few for these margins: only {percent} % of harmless releases would be promoted within "
        "{days} days; {metric} takes longest."
    ),
    Shortage.NO_HISTORY: gettext_lazy(
        "The past of this group says nothing about {metric}: wait for its telemetry, or leave the margin out."
    ),
    Shortage.NO_CONTROL: gettext_lazy("No stage leaves anybody to compare with: begin with a smaller share."),
    SHORT_HISTORY: gettext_lazy(
        "The group has {days} days of history; {least} are needed to say when its evidence will be enough."
    ),
}
INSTEAD: dict[str, words.Words] = {
    "standard": gettext_lazy("Use the standard policy instead: this group is large enough for it."),
    "small-fleet": gettext_lazy("Use the policy for small fleets instead: this group is large enough for it."),
    "manual": gettext_lazy("Use plain stages instead, at which a person decides: no policy reaches a verdict here."),
}
BOTTLENECK: dict[str, words.Words] = {
    "exposure": gettext_lazy("playing the release often enough"),
    "dwell": gettext_lazy("the dwell"),
}


def _total(found: Preview) -> str:
    text = ngettext(
        "{frames} frame of {households} households can take part.",
        "{frames} frames of {households} households can take part.",
        found.frames,
    ).format(frames=decimal(found.frames, 0), households=decimal(found.households, 0))
    if found.no_stage:
        text += " " + ngettext(
            "{frames} frame is in no stage.", "{frames} frames are in no stage.", found.no_stage
        ).format(frames=decimal(found.no_stage, 0))
    return text


def _stage(stage: StagePreview, hours: StageHours | None, *, last: bool) -> StageLine:
    gate = GateKind(stage.gate)
    return StageLine(
        number=stage.number,
        share=share(stage.share),
        frames=decimal(stage.frames, 0),
        canaries=decimal(stage.canaries, 0),
        controls=decimal(stage.controls, 0) if stage.controls else _("nobody"),
        gate="–" if last else GATE_NAME[gate],
        dwell=duration(stage.dwell_h * 3600) if stage.dwell_h else "–",
        expected=_expected(hours),
        margins=effects.margins(stage.margins),
        examples=stage.examples,
    )


def _excluded(one: ExcludedFrames) -> LeftOut:
    return LeftOut(
        sentence=causes.explained(one.code, one.parameters, one.sentence),
        frames=ngettext("{count} frame", "{count} frames", one.frames).format(count=decimal(one.frames, 0)),
        examples=one.examples,
    )
