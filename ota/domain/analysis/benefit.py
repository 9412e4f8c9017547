"""Did the fix fix it? What the release did to completion and to complaints, with an interval that holds at all times.

PROMOTE means "not worse". Here is how much better, in a table of those it is for (``restrict``), against control and
later against the holdback:

    completion   theta +- half_width(V, tau, alpha),   V = V_C + max(V_T0, V_T1)                       (``estimator``)
    complaints   all R for which neither "fewer" nor "more" is shown:
                 |rho - R| < half_width(s V_R, tau R, alpha),   V_R as if R were true                (``complaints``)
                 s = max(1, (K_C + K_T) / (K_C + R E_T))
    better       completion: low > 0;  complaints: high < 1

| symbol | meaning | unit |
| --- | --- | --- |
| theta, V | effect on one playback, and its cautious variance | fraction of playbacks |
| rho | complaint-days of canaries over what controls would have had | ratio |
| R, V_R | a ratio that may be true; variance of rho if it is | ratio, squared |
| K_T, K_C, E_T | complaint-days of canaries, of controls; what controls would have had for canaries | days |
| s | both arms' complaints over what R makes of the controls' alone | 1 |
| tau | ``Measure.size``; ``Policy.complaint_tau``, in parts of R | the estimate's |
| alpha | chance that the interval ever misses the truth (``Policy.alpha``) | 1 |

Completion is a difference: its errors are symmetric. Complaints are few and come in bursts: an interval about rho with
rho's own variance would be empty-handed after no complaint at all (variance 0) and too sure after few. Asking of each R
whether the data speak against it uses the variance that R would have, so the interval leans to the right, stays above 0
and is still one after none. A small holdback that happens to complain little makes rho large and its variance small at
once; s corrects that by what both arms together say of the controls. Counts cannot fall below 0, so they fall short of
their mean less wildly than normal numbers do: the upper end, on which "better" rests, errs on the safe side. The
logrank test would be exact, but a frame leaves it with its first complaint, and whoever a fix is for complains all the
time: it would learn least from them.

Sources: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences";
Miettinen, Nurminen, "Comparative analysis of two rates" (the variance under each hypothesis); Maurer, "A bound on the
deviation probability for sums of non-negative random variables".
"""

from dataclasses import dataclass

from ota.domain.analysis import baseline, complaints, eprocess
from ota.domain.analysis.complaints import Complaints
from ota.domain.analysis.estimator import estimate, sample
from ota.domain.analysis.exposure import exposure
from ota.domain.analysis.policy import COMPLAINT, COMPLETION, Policy
from ota.domain.analysis.table import Table

METRICS = (COMPLETION, COMPLAINT)
_WIDE = 1e6
"""A ratio of complaints above which there is no upper end worth naming."""


@dataclass(frozen=True, slots=True)
class Benefit:
    """Canary against control. Completion: difference of fractions, above 0 is better; ``canary_n`` and ``control_n``
    are playbacks. Complaints: ratio, below 1 is better; complaint-days. None: not known yet, or no such bound.

    ``better`` is True or False once the interval leaves out "no benefit" on the good or the bad side, else None.
    """

    metric: str
    estimate: float | None
    low: float | None
    high: float | None
    better: bool | None
    canary_n: int = 0
    control_n: int = 0


def benefits(table: Table, policy: Policy) -> tuple[Benefit, ...]:
    """Completion, then complaints. Without enough exposure in ``table``, or without anything to compare with, they say
    nothing. A metric that the policy does not have is left out."""
    enough = exposure(table, policy).enough
    found = []
    if any(measure.name == COMPLETION for measure in policy.measures):
        found.append(_completion(table, policy, enough))
    if COMPLAINT in policy.weights():
        found.append(_complaints(table, policy, enough))
    return tuple(found)


def shown(benefit: Benefit, at_least: float) -> bool:
    """Whether the whole interval is at least that good: completion higher by more than ``at_least`` (a fraction, 0 for
    any benefit), complaints less than ``at_least`` times as many (a ratio, 1 for any benefit)."""
    if benefit.metric == COMPLETION:
        if not 0 <= at_least < 1:
            raise ValueError("The benefit asked of completion is a fraction from 0 to below 1, such as 0.02.")
        return benefit.low is not None and benefit.low > at_least
    if benefit.metric == COMPLAINT:
        if not 0 < at_least <= 1:
            raise ValueError("The benefit asked of complaints is a ratio above 0 and at most 1, such as 0.5 for half.")
        return benefit.high is not None and benefit.high < at_least
    raise ValueError(f"No benefit is known of {benefit.metric}: ask for completion or complaint.")


def _completion(table: Table, policy: Policy, enough: bool) -> Benefit:
    measure = next(measure for measure in policy.measures if measure.name == COMPLETION)
    data = sample(table, measure, policy)
    found = estimate(data, policy) if data is not None and enough else None
    if found is None or found.control_frames < policy.benefit_frames:
        return Benefit(COMPLETION, None, None, None, None)
    width = float(eprocess.half_width(found.variance_cautious, measure.size, policy.alpha))
    low, high = found.effect - width, found.effect + width
    return Benefit(
        COMPLETION,
        found.effect,
        low,
        high,
        True if low > 0 else False if high < 0 else None,
        int(found.canary_playbacks),
        int(found.control_playbacks),
    )


def _complaints(table: Table, policy: Policy, enough: bool) -> Benefit:
    found = complaints.compare(table, baseline.complaint_rates(table, policy)) if enough else None
    if found is None:
        return Benefit(COMPLAINT, None, None, None, None)
    low, high = interval(found, policy)
    better = True if high is not None and high < 1 else False if low > 1 else None
    return Benefit(COMPLAINT, found.ratio, low, high, better, int(found.seen), int(found.control_seen))


def interval(found: Complaints, policy: Policy) -> tuple[float, float | None]:
    """Both ends of the ratio's interval at all times together; the upper is None while there is none."""
    if found.expected < policy.complaint_expected:
        return 0.0, None
    # A quarter of a second to import, which every process and command of the backend would pay.
    from scipy.optimize import brentq  # type: ignore[import-untyped]

    def beyond(ratio: float) -> float:
        """Above 0 where the data speak against ``ratio``."""
        pooled = (found.control_seen + found.seen) / (found.control_seen + ratio * found.expected)
        variance = max(1.0, pooled) * found.variance(ratio)
        allowed = eprocess.half_width(variance, policy.complaint_tau * ratio, policy.alpha)
        return abs(found.ratio - ratio) - float(allowed)

    middle, tiny = max(found.ratio, 1 / _WIDE), 1 / _WIDE**2
    low = float(brentq(beyond, tiny, middle)) if beyond(tiny) > 0 > beyond(middle) else 0.0
    high = float(brentq(beyond, middle, _WIDE)) if beyond(middle) < 0 < beyond(_WIDE) else None
    return low, high
