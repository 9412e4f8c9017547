"""One sentence about where a rollout stands, and why. Pure."""

from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from dashboards.trail import Why, why_of
from ota.selectors import RolloutDetail, RolloutSummary, StageDetail

STANDS_STILL = ("draft", "proposed", "scheduled", "running")
"""States that say all there is to say."""
EVENT_OF = {"rolling_back": ("rolling_back", "rolled_back"), "rolled_back": ("rolling_back", "rolled_back")}
"""State -> the events that may have led to it, where they are not called like it."""


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
        case "draft":
            return _("A draft: nothing is offered and no frame is held before somebody starts it.")
        case "proposed":
            return _("Nothing is offered yet: somebody other than its author has to approve the rollout.")
        case "scheduled":
            return _("It waits for its hour; nothing is offered yet.")
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
        case "rolling_back":
            return _back(shown, len(rollout.stages))
        case _:
            sentence = _("Rolled back in stage {number} of {stages}: updated frames returned to the release they had.")
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


def _back(shown: Sequence[StageDetail], stages: int) -> str:
    back = sum(stage.counts.get("returned", 0) for stage in shown)
    told = back + sum(stage.counts.get("returning", 0) for stage in shown)
    return ngettext(
        "Rolling back in stage {number} of {stages}: {back} of {told} frame has returned to the release it had.",
        "Rolling back in stage {number} of {stages}: {back} of {told} frames have returned to the release they had.",
        told,
    ).format(number=len(shown), stages=stages, back=back, told=told)


def why(rollout: RolloutDetail) -> Why:
    """Why the rollout stands still or has ended; empty while it runs."""
    if rollout.state in STANDS_STILL:
        return Why("")
    kinds = EVENT_OF.get(rollout.state, (rollout.state,))
    last = next((event for event in reversed(rollout.events) if event.kind in kinds and event.reason), None)
    return why_of(last) if last is not None and last.reason == rollout.reason else Why(rollout.reason)
