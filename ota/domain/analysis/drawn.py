"""What a rollout's tests would say, drawn: estimates that move as those of so many frames do.

    tau_j    = t - T_j
    theta    = effect + B / W + C sqrt(V_C),   W = sum_j N_j G(tau_j),
    V_T0     = 1 / W,   V_T1 = V_T0 (1 + Z sqrt(2 a_2 / (a^2 N_T)))
    G(tau)   = mean_i a_i tau / (f x_i + f_d a_i tau),   x_i = 1 + a_i tau / (p_i + k)
    w(s)     = sum over T_j <= s of N_j G(tau_j) / (tau_j a N_C)
    V_C      = N_C (f a int w^2 + (f mean_i a_i^2 / (p_i + k) + f_d a_2) (int w)^2) / W^2
    K        = gamma process of mean E and variance q E, plus Z sqrt(N l q / H) days
    x(s)     = sum over T_j <= s of N_j / N_C,   E_T = int x dK_C
    c        = max(0, q (1 + t / H) - 1 + Z sqrt(1 / E_C + 2 / N_C)) l / (l_2 t),   sum_T m_i^2 = l_2 sum_j N_j tau_j^2
    d        ~ Poisson(h_g frames at risk), exposed and not, in each stratum

| symbol | meaning | unit |
| --- | --- | --- |
| T_j, N_j; N_T, N_C | opening of stage j, its new frames; canaries, controls | days, frames |
| B, C | Brownian motion in information W; another in 1 / V_C, over its own standard deviation | |
| Z | standard normal, once for each run, purpose and stage, or once for controls | |
| K, K_C; E | complaint-days of a stage's frames, or of controls; expected ones | days |
| x, c, m_i, E_T | as in ``complaints``, whose tests for harm and for harmlessness are asked of them | |
| d | first complaints, for ``logrank`` | |
| a, a_2; l, l_2 | means of a_i and a_i^2; of lambda_i and lambda_i^2 | 1/day, squared |
| others | as in ``power`` and ``estimator`` | |

Left out: evenings, hardware strata, outages, frames that are off when they are offered the release, several metrics
that move together.

Sources: Jennison, Turnbull, "Group sequential methods" (estimates as Brownian motion in information); those of the
modules named.
"""

import numpy as np
from scipy.special import logsumexp  # type: ignore[import-untyped]

from ota.domain.analysis import eprocess
from ota.domain.analysis.policy import COMPLAINT, Measure, Policy
from ota.domain.analysis.power import Fleet, Spread
from ota.domain.analysis.schedule import Schedule
from ota.domain.analysis.table import FloatArray, sum_by


class MeasureTest:
    """theta and its variances from look to look."""

    def __init__(
        self,
        fleet: Fleet,
        measure: Measure,
        policy: Policy,
        schedule: Schedule,
        effect: float,
        random: np.random.Generator,
    ) -> None:
        self.measure, self.policy, self.random, self.effect = measure, policy, random, effect
        self.spread: Spread = fleet.measures[measure.name]
        a, rests = fleet.activity, fleet.activity * fleet.baseline_days + self.spread.prior
        f, drift = self.spread.within, self.spread.drift
        typical = schedule.typical
        n = typical * schedule.days[:, None]
        noise = f * (1 + n / (typical * fleet.baseline_days + self.spread.prior)) + drift * n
        # At the beginning, and of a frame that never plays, nothing is known: 0, even where f is 0.
        self.gain = np.divide(n, noise, out=np.zeros_like(n), where=n > 0).mean(axis=1)
        self.lasting = float((f * a**2 / rests + drift * a**2).mean())
        self.uneven = 2 * float((a**2).mean()) / schedule.activity**2
        runs = schedule.runs
        self.b, self.w = np.zeros(runs), np.zeros(runs)
        self.c, self.known = np.zeros(runs), np.zeros(runs)
        self.noise = random.normal(size=runs)

    def look(self, schedule: Schedule) -> tuple[FloatArray, FloatArray]:
        """Logs of E for harm and for non-inferiority."""
        gained = schedule.new * self.gain[schedule.index]
        w = gained.sum(axis=1)
        self.b += self.random.normal(size=schedule.runs) * np.sqrt(np.maximum(w - self.w, 0.0))
        self.w = np.maximum(w, self.w)
        height = np.divide(gained, schedule.tau, out=np.zeros_like(gained), where=schedule.tau > 0)
        height /= schedule.activity * schedule.controls
        whole = (height * schedule.tau).sum(axis=1)
        f = self.spread.within
        pull = schedule.controls * (f * schedule.activity * schedule.overlap(height) + self.lasting * whole**2)
        v_control = pull / w**2
        known = np.maximum(1 / v_control, self.known)
        self.c += self.random.normal(size=schedule.runs) * np.sqrt(known - self.known)
        self.known = known
        theta = self.effect + self.b / w + self.c / np.sqrt(known) * np.sqrt(v_control)
        seen = np.maximum(1.0, 1 + self.noise * np.sqrt(self.uneven / np.maximum(schedule.on.sum(axis=1), 1.0)))
        harm = self.measure.harm * theta
        noninferior = np.zeros(schedule.runs)
        for margin, which in schedule.margins(self.measure.name):
            variance = v_control[which] + seen[which] / w[which]
            noninferior[which] = eprocess.log_e_noninferior(harm[which], variance, margin, self.policy.margin_spread)
        return eprocess.log_e(harm, v_control + 1 / w, self.measure.tau, self.measure.size), noninferior


class ComplaintTest:
    """Complaint-days of both arms for non-inferiority, first complaints for harm, from look to look."""

    def __init__(
        self, fleet: Fleet, policy: Policy, schedule: Schedule, effect: float, random: np.random.Generator
    ) -> None:
        self.fleet, self.policy, self.random, self.effect = fleet, policy, random, effect
        self.rate, self.square = float(fleet.complaints.mean()), float((fleet.complaints**2).mean())
        runs, stages = schedule.runs, len(schedule.new)
        self.lasting = np.sqrt(self.rate * fleet.burst / fleet.memory)
        self.noise, self.control_noise = random.normal(size=(runs, stages)), random.normal(size=runs)
        self.unsure = random.normal(size=runs)
        self.due, self.expected, self.counted = np.zeros(runs), np.zeros(runs), np.zeros(runs)
        ratios = [stage.margins[COMPLAINT] for stage in schedule.tested if COMPLAINT in stage.margins]
        self.ratios = np.array(sorted({*ratios, *policy.hazard_ratios}))
        self.split = np.zeros((runs, len(self.ratios)))
        strata = int(fleet.risk.max()) + 1
        size = np.maximum(np.bincount(fleet.risk, minlength=strata), 1)
        self.hazard = sum_by(fleet.risk, fleet.hazard, strata) / size * schedule.step
        self.unexposed = np.tile(np.bincount(fleet.risk, minlength=strata).astype(np.float64), (runs, 1))
        self.exposed = np.zeros_like(self.unexposed)
        self.brought = np.zeros((runs, stages), dtype=np.bool_)
        self.theta = np.asarray(policy.hazard_ratios)
        self.logs = np.zeros((runs, len(self.theta)))

    def look(self, schedule: Schedule) -> tuple[FloatArray, FloatArray]:
        """Logs of E for harm and for non-inferiority."""
        self._count(schedule)
        first, days = self._logrank(schedule), schedule.look * schedule.step
        due = schedule.controls * self.rate * days
        known = self.fleet.burst * (1 + days / self.fleet.memory) - 1
        # What controls show of it is itself uncertain, as a variance of so many counts is.
        known = known + self.unsure * np.sqrt(1 / due + 2 / schedule.controls)
        excess = np.maximum(0.0, known) * self.rate / (self.square * days)
        own = self.square * (schedule.new * schedule.tau**2).sum(axis=1)
        worth = excess * own / np.maximum(self.expected, 1e-9)
        some = np.isin(self.ratios, self.theta)
        all_of_them = logsumexp(self._split()[:, some] / (1 + worth)[:, None], axis=1) - np.log(some.sum())
        harm = np.where(schedule.enough(), np.logaddexp(first, all_of_them) - np.log(2), first)
        found = np.zeros(schedule.runs)
        for margin, which in schedule.margins(COMPLAINT):
            place = int(np.searchsorted(self.ratios, margin))
            found[which] = (-self._split()[:, place] / (1 + worth))[which]
        return harm, found

    def _split(self) -> FloatArray:
        """log L(R) / L(1), shape (runs, ratios)."""
        return np.asarray(self.counted[:, None] * np.log(self.ratios) - self.split)

    def _count(self, schedule: Schedule) -> None:
        """Complaint-days since the last look."""
        burst, step = self.fleet.burst, schedule.step
        due = self.rate * (schedule.new * schedule.tau).sum(axis=1) * self.effect
        lasting = (self.noise * np.sqrt(schedule.new) * (schedule.index > 0)).sum(axis=1) * step
        seen = self._drawn((due - self.due) / burst) * burst + lasting * self.lasting * self.effect
        base = self._drawn(np.full(schedule.runs, self.rate * schedule.controls * step / burst)) * burst
        base += self.control_noise * np.sqrt(schedule.controls) * self.lasting * step
        odds = schedule.on.sum(axis=1) / schedule.controls
        self.due = due
        self.counted += seen
        self.expected += odds * base
        self.split += (seen + base)[:, None] * np.log((1 + self.ratios * odds[:, None]) / (1 + odds[:, None]))

    def _drawn(self, shape: FloatArray) -> FloatArray:
        return np.where(shape > 0, self.random.gamma(np.maximum(shape, 1e-12)), 0.0)

    def _logrank(self, schedule: Schedule) -> FloatArray:
        """Log of E by first complaints."""
        self._bring(schedule)
        y1, y0 = self.exposed, self.unexposed
        hit1 = np.minimum(self.random.poisson(y1 * self.hazard * self.effect), y1)
        hit0 = np.minimum(self.random.poisson(y0 * self.hazard), y0)
        share = np.divide(y1, y1 + y0, out=np.zeros_like(y1), where=y1 + y0 > 0)
        spread = np.log1p((self.theta - 1) * share[:, :, None])
        self.logs += hit1.sum(axis=1)[:, None] * np.log(self.theta) - ((hit1 + hit0)[:, :, None] * spread).sum(axis=1)
        self.exposed, self.unexposed = y1 - hit1, y0 - hit0
        return np.asarray(logsumexp(self.logs, axis=1) - np.log(len(self.theta)))

    def _bring(self, schedule: Schedule) -> None:
        """Frames of a stage that has opened become exposed; those hit before are at risk no more."""
        left = len(self.fleet) - np.concatenate(([0.0], np.cumsum(schedule.new)[:-1]))
        for number in range(len(schedule.new)):
            opened = (schedule.index[:, number] > 0) & ~self.brought[:, number]
            moved = np.where(opened[:, None], self.unexposed * (schedule.new[number] / left[number]), 0.0)
            self.exposed, self.unexposed = self.exposed + moved, self.unexposed - moved
            self.brought[opened, number] = True
