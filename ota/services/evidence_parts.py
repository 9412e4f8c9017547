"""Where a rollout aims: harm in the target and in the rest beside the whole group, and what it did for whom."""

import logging
import math
from dataclasses import replace
from typing import Any

from ota.domain.analysis.benefit import benefits, shown
from ota.domain.analysis.evaluate import evaluate
from ota.domain.analysis.policy import Policy, Stage
from ota.domain.analysis.restrict import restrict
from ota.domain.analysis.table import Table
from ota.domain.analysis.verdict import Decision, Evidence, Reason, Verdict
from ota.domain.plan import Plan
from ota.services import looks
from ota.services.evidence_table import Assigned

log = logging.getLogger(__name__)

WHOLE = 0.5
"""Where a rollout has a target: weight of the whole group in the total; the target and the rest share what is left."""
PARTS = ("target", "rest")


def together(whole: Verdict, parts: dict[str, Verdict]) -> Verdict:
    """The verdict on the group where the release aims at a part of it.

    Harm is looked for in the whole group, in the target and in the rest; whichever shows it, everybody goes back: a
    release that helps some and hurts others goes to both. The three totals are e-processes on the same rollout, so
    their average is one, and alpha stays what it is (WHOLE, and half of the remainder each). What the whole group must
    fulfil before anybody is judged, and what it takes to promote, stays the group's.
    """
    totals = {"": (math.log(WHOLE), whole)}
    totals |= {name: (math.log((1 - WHOLE) / len(parts)), verdict) for name, verdict in parts.items()}
    logs = [weight + verdict.log_total for weight, verdict in totals.values()]
    top = max(logs)
    total = top + math.log(sum(math.exp(log - top) for log in logs)) if math.isfinite(top) else top
    blind = whole.reason in (Reason.RATIO_MISMATCH, Reason.CONTAMINATED, Reason.STALE)
    if blind or total < whole.needed:
        held = whole.decision is Decision.ROLLBACK  # the whole alone: with its weight it is not enough yet
        decision, reason = (Decision.HOLD, Reason.NOT_ENOUGH_EVIDENCE) if held else (whole.decision, whole.reason)
        return replace(whole, decision=decision, reason=reason, log_total=total)
    terms = [(weight + log, name) for weight, verdict in totals.values() for name, log in verdict.terms]
    return replace(whole, decision=Decision.ROLLBACK, reason=Reason.HARM, metrics=(max(terms)[1],), log_total=total)


def parts_of(table: Table, meant: Assigned, stage: Stage, age_h: float, policy: Policy) -> dict[str, Evidence]:
    """Evidence in the target and in the rest; none where one of them is empty."""
    members = dict(zip(PARTS, (meant.targeted, ~meant.targeted), strict=True))
    if not all(member.any() for member in members.values()):
        return {}
    return {name: evaluate(restrict(table, member), stage, age_h, policy) for name, member in members.items()}


def benefit_of(table: Table, meant: Assigned, plan: Plan, policy: Policy) -> tuple[list[dict[str, Any]], bool]:
    """What the release did where it should help, and to everybody else; and whether the plan's gate is met."""
    where = {"everybody": table}
    if plan.target:
        members = dict(zip(PARTS, (meant.targeted, ~meant.targeted), strict=True))
        where = {name: restrict(table, member) for name, member in members.items() if member.any()}
    try:
        found = [(name, one) for name, part in where.items() for one in benefits(part, policy)]
    except Exception:
        log.exception("The benefit cannot be computed")  # not known, then; the verdict does not hang on it
        found = []
    gate, aimed = plan.benefit, "target" if plan.target else "everybody"
    met = gate is not None and any(
        name == aimed and one.metric == gate.metric and shown(one, gate.at_least) for name, one in found
    )
    return [{"where": name, **looks.plain(one)} for name, one in found], met
