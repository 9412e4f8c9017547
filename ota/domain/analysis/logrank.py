"""Anytime-valid logrank test for events that hit few frames: a complaint, a breakage, going dark.

    log E_theta = sum over strata g and event times t of
                  d1 log theta - d log[ (theta Y1 + Y0) / (Y1 + Y0) ]
    E           = mean of E_theta over the hazard ratios theta of the policy

| symbol | meaning |
| --- | --- |
| theta | how many times more often exposed frames would be hit |
| Y1, Y0 | frames of the stratum still at risk just before t, exposed and not |
| d, d1 | frames of the stratum hit at t; the exposed ones among them |

A frame is hit once, by its first event since the start, and then leaves the risk set. It counts as unexposed until its
offer and as exposed from then on, whatever it really runs. Frames hit at the same time are given the same risk set:
drawing without replacement spreads less than drawing with it, so E stays an e-process (Hoeffding). A clustered second
complaint of the same household is not looked at: that is what breaks binomial tests on complaints.

Strata keep households that always complain from being compared with those that never do: for complaints, groups by the
rate predicted from the past.

Sources: ter Schure, Perez-Ortiz, Ly, Grunwald, "The anytime-valid logrank test: error control under continuous
monitoring with unlimited horizon"; Hoeffding, "Probability inequalities for sums of bounded random variables".
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp  # type: ignore[import-untyped]

from ota.domain.analysis.policy import Policy
from ota.domain.analysis.table import Arm, FloatArray, IntArray, Table


@dataclass(frozen=True, slots=True)
class RareEvidence:
    """Log of E, and frames hit, by exposure at that time."""

    log_e: float
    exposed: int
    unexposed: int


def risk_strata(rates: FloatArray, policy: Policy) -> IntArray:
    """Number of each frame's stratum, by quantiles of its predicted rate. Equal rates share a stratum."""
    if not len(rates):
        return np.zeros(0, dtype=np.int64)
    return np.searchsorted(np.quantile(rates, policy.risk_cuts), rates, side="left").astype(np.int64)


def evidence(table: Table, name: str, stratum: IntArray, policy: Policy) -> RareEvidence | None:
    """Evidence of harm by rare event ``name``; None when the table does not have it."""
    first = table.frames.first_h.get(name)
    if first is None:
        return None
    entered, end = table.frames.entered_h, table.end_h()
    exposed = np.where(table.frames.arm == Arm.CANARY, table.frames.offered_h, np.inf)
    return logrank(first, entered, exposed, end, stratum, policy.hazard_ratios)


def logrank(
    event: FloatArray,
    entered: FloatArray,
    exposed: FloatArray,
    end: FloatArray,
    stratum: IntArray,
    hazard_ratios: tuple[float, ...],
) -> RareEvidence:
    """All arguments have one value for each frame; times in hours, infinity for never. Events after ``end`` or before
    ``entered`` are not counted; whoever was hit before entering is not at risk."""
    hit = (event >= entered) & (event <= end)
    until = np.where(event <= end, event, end)
    theta = np.asarray(hazard_ratios)
    logs = np.zeros(len(theta))
    hits, hits_exposed = 0, 0
    for group in np.unique(stratum[hit]):
        member = stratum == group
        here = member & hit
        times, place = np.unique(event[here], return_inverse=True)
        d = np.bincount(place, minlength=len(times))
        d1 = np.bincount(place, weights=exposed[here] <= event[here], minlength=len(times))
        at_risk = _at_risk(entered[member], until[member], times)
        y1 = _at_risk(np.maximum(entered, exposed)[member], until[member], times)
        share = y1 / at_risk
        hazard = np.log1p((theta[:, None] - 1) * share)
        logs += d1.sum() * np.log(theta) - (d * hazard).sum(axis=1)
        hits, hits_exposed = hits + int(d.sum()), hits_exposed + int(d1.sum())
    return RareEvidence(float(logsumexp(logs) - np.log(len(theta))), hits_exposed, hits - hits_exposed)


def _at_risk(start: FloatArray, until: FloatArray, times: FloatArray) -> FloatArray:
    """How many have started by each time and have not ended before it."""
    ever = start <= until
    begun = np.searchsorted(np.sort(start[ever]), times, side="right")
    over = np.searchsorted(np.sort(until[ever]), times, side="left")
    return (begun - over).astype(np.float64)


def first_dark(last_contact_h: FloatArray, known_h: FloatArray, now_h: float, policy: Policy) -> FloatArray:
    """When each frame first went dark: ``known_h`` (infinity for not yet), or now if it has been silent for long
    enough since its last contact. Contacts and results are hours since the start; contacts before it are negative."""
    silent = np.maximum(last_contact_h, 0.0) + policy.dark_after_h
    return np.minimum(known_h, np.where(silent <= now_h, silent, np.inf))
