"""The trial of a release: what it does on this frame, before anybody sees it, against the limits in its bundle.

First the golden clips (lip error and the time of a step), then one film of the bundle's own portrait that nobody sees:
memory, speed, power. ``run_trial`` does the first part in this process; frames do both in a renderer of their own
(``device_agent.renderer``), so that a release that brings its process down has merely failed its trial.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device_agent.adapters import AdapterError, WrongBaseModel, load
from device_agent.bundle import Bundle, BundleError
from device_agent.bundle.manifest import TrialLimits
from device_agent.ports import TrialReport
from device_agent.power import PowerFigures
from device_agent.runtime import OrtRuntime, RuntimeFactory, RuntimeFailure
from device_agent.telemetry import trial_report
from device_agent.trial.golden import GoldenResult, evaluate
from protocol.errors import Reason, Refused
from protocol.messages import LipError

Source = Path | bytes


def run_trial(
    bundle: Source,
    adapter: Source | None,
    runtimes: RuntimeFactory = OrtRuntime,
    beat: Callable[[], None] = lambda: None,
) -> TrialReport:
    """Measure the golden clips with this bundle and adapter (about a second on one core).

    Limits that were missed are the report's ``failure``. Raises Refused: WRONG_BASE_MODEL, BAD_ARTIFACT.
    """
    try:
        with Bundle.open(bundle) as opened:
            delta = None if adapter is None else load(adapter, opened.sha256, opened.manifest.adapter)
            result = evaluate(opened, delta, runtimes, beat)
    except WrongBaseModel as error:
        raise Refused(Reason.WRONG_BASE_MODEL, str(error)) from error
    except (AdapterError, BundleError, RuntimeFailure) as error:
        raise Refused(Reason.BAD_ARTIFACT, str(error)) from error
    return trial_report(lip_errors(result), golden_figures(result), result.failures)


def lip_errors(result: GoldenResult) -> tuple[LipError, ...]:
    """Per segment, in mm."""
    return tuple(
        LipError(
            segment=part.segment,
            lip_mm=round(part.lip_mm, 4),
            mean_pose_mm=round(part.mean_pose_mm, 4),
            limit_mm=part.limit_mm,
        )
        for part in result.segments
    )


def golden_figures(result: GoldenResult) -> dict[str, float]:
    """What else the golden clips measure."""
    return {"step_p50_ms": round(result.step_p50_ms, 3), "step_p99_ms": round(result.step_p99_ms, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmFigures:
    """What the trial's film took; ``memory_mb`` is the process's largest resident memory, clips included."""

    fps: float
    first_frame_ms: float
    memory_mb: float
    power: PowerFigures

    def as_reported(self) -> dict[str, float]:
        """By name with unit; ``power_estimated`` is 1 where no meter was read."""
        return {
            "memory_mb": round(self.memory_mb, 1),
            "fps": round(self.fps, 1),
            "first_frame_ms": round(self.first_frame_ms, 1),
            "power_w": round(self.power.total_w, 3),
            "energy_j": round(self.power.energy_j, 3),
            "power_estimated": float(self.power.estimated),
        }

    def missed(self, limits: TrialLimits) -> tuple[str, ...]:
        """One sentence per limit that was missed. Power is judged only where a meter was read."""
        metered = not self.power.estimated
        demands = [
            ("The renderer's memory", self.memory_mb, limits.memory_mb, "MB", True),
            ("The power of a film", self.power.total_w, limits.power_w, "W", metered),
            ("The energy of a film", self.power.energy_j, limits.energy_j, "J", metered),
        ]
        return tuple(
            f"{what} is {value:.1f} {unit}; at most {limit:.1f} {unit} is allowed."
            for what, value, limit, unit, binds in demands
            if binds and limit is not None and value > limit
        )
