"""What a rollout would do, before it starts: its preview in words. Pure."""

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from dashboards import causes, effects, words
from dashboards.formats import decimal, duration, share
from dashboards.words_verdict import GATE_NAME
from ota.domain.plan import GateKind
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


def previewed(found: Preview) -> Previewed:
    """The preview in words."""
    refused = ""
    if found.refused is not None:
        refused = causes.explained(found.refused_code or "", found.refused_parameters, found.refused)
    return Previewed(
        refused=refused,
        total=_total(found),
        stages=tuple(_stage(stage, last=stage.number == len(found.stages)) for stage in found.stages),
        excluded=tuple(_excluded(one) for one in found.excluded),
    )


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


def _stage(stage: StagePreview, *, last: bool) -> StageLine:
    gate = GateKind(stage.gate)
    return StageLine(
        number=stage.number,
        share=share(stage.share),
        frames=decimal(stage.frames, 0),
        canaries=decimal(stage.canaries, 0),
        controls=decimal(stage.controls, 0) if stage.controls else _("nobody"),
        gate="–" if last else GATE_NAME[gate],
        dwell=duration(stage.dwell_h * 3600) if stage.dwell_h else "–",
        margins=tuple(effects.margin(name, margin) for name, margin in stage.margins.items()),
        examples=stage.examples,
    )


def _excluded(one: ExcludedFrames) -> LeftOut:
    return LeftOut(
        sentence=causes.explained(one.code, one.parameters, one.sentence),
        frames=ngettext("{count} frame", "{count} frames", one.frames).format(count=decimal(one.frames, 0)),
        examples=one.examples,
    )
