"""From the ends of many rollouts to figures: shares with exact bounds, times as medians over those that ended so."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import beta  # type: ignore[import-untyped]

from benchmarks.canary.scenarios import BY_NAME
from benchmarks.canary.staged import Result
from ota.domain.analysis.verdict import Decision

CONFIDENCE = 0.95


def upper_bound(hits: int, runs: int) -> float:
    """Clopper and Pearson's one-sided upper bound of a share, at 95 %."""
    return 1.0 if hits >= runs else float(beta.ppf(CONFIDENCE, hits + 1, runs - hits))


def lower_bound(hits: int, runs: int) -> float:
    """The lower one."""
    return 1.0 - upper_bound(runs - hits, runs)


@dataclass(frozen=True, slots=True)
class Ends:
    """How a scenario's rollouts ended. Promoted are those that everybody may have, with a holdback also those that were
    rolled back afterwards: ``rolled_back_late`` of them."""

    runs: int
    rolled_back: int
    rolled_back_late: int
    rollback_h: tuple[float, ...]
    promoted: int
    promote_h: tuple[float, ...]
    opened_h: tuple[float, ...]
    """Median hour at which each stage opened, where it did."""
    blamed: Mapping[str, int]

    def summary(self) -> dict[str, object]:
        return {
            "runs": self.runs,
            "rolled_back": share(self.rolled_back, self.runs),
            "rolled_back_upper95": round(upper_bound(self.rolled_back, self.runs), 5),
            "rolled_back_late": share(self.rolled_back_late, self.runs),
            "rollback_median_h": median(self.rollback_h),
            "rollback_q90_h": quantile(self.rollback_h, 0.9),
            "promoted": share(self.promoted, self.runs),
            "promoted_upper95": round(upper_bound(self.promoted, self.runs), 5),
            "promoted_lower95": round(lower_bound(self.promoted, self.runs), 5),
            "promote_median_h": median(self.promote_h),
            "promote_q90_h": quantile(self.promote_h, 0.9),
            "stages_opened_h": self.opened_h,
            "blamed": dict(self.blamed),
        }


def ends(results: Sequence[Result]) -> Ends:
    back = [result for result in results if result.decision is Decision.ROLLBACK]
    everybody_h = tuple(result.everybody_h for result in results if result.everybody_h is not None)
    most = max(len(result.opened_h) for result in results)
    opened = [[result.opened_h[k] for result in results if len(result.opened_h) > k] for k in range(most)]
    return Ends(
        runs=len(results),
        rolled_back=len(back),
        rolled_back_late=sum(result.everybody_h is not None for result in back),
        rollback_h=tuple(result.hours for result in back),
        promoted=len(everybody_h),
        promote_h=everybody_h,
        opened_h=tuple(statistics.median(hours) for hours in opened),
        blamed=Counter(name for result in back for name in result.metrics),
    )


def share(hits: int, runs: int) -> float:
    return round(hits / runs, 5)


def median(hours: Sequence[float]) -> float | None:
    return statistics.median(hours) if hours else None


def quantile(hours: Sequence[float], part: float) -> float | None:
    """The smallest that at least ``part`` of them do not exceed."""
    return sorted(hours)[max(0, math.ceil(part * len(hours)) - 1)] if hours else None


def headline(found: Mapping[str, Ends]) -> dict[str, object]:
    """The figures that are promised, from all scenarios. False rollbacks are those until everybody may have the
    release; ``_watched`` has the week against the holdback as well."""
    nothing = found["no_effect"]
    margin = [ends for name, ends in found.items() if BY_NAME[name].margin]
    figures: dict[str, object] = {}
    for name, key in (("no_effect", ""), ("harder", "_harder"), ("watched", "_watched")):
        harmless = found[name]
        figures[f"false_rollback{key}"] = share(harmless.rolled_back, harmless.runs)
        figures[f"false_rollback{key}_upper95"] = round(upper_bound(harmless.rolled_back, harmless.runs), 5)
    figures["harmful_promoted"] = sum(ends.promoted for name, ends in found.items() if BY_NAME[name].harmful)
    figures["boundary_promoted_upper95"] = max(round(upper_bound(ends.promoted, ends.runs), 5) for ends in margin)
    for name in ("completion", "power", "complaints"):
        figures[f"{name}_rolled_back"] = share(found[name].rolled_back, found[name].runs)
        figures[f"{name}_median_h"] = median(found[name].rollback_h)
    figures["good_promoted"] = share(nothing.promoted, nothing.runs)
    figures["good_median_h"] = median(nothing.promote_h)
    figures["good_median_h_10k"] = median(found["no_effect_10k"].promote_h)
    return figures
