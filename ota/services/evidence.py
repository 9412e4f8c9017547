"""Evidence from rows: the table of a stage, one look at it, and looking at every rollout when it is due.

    table_of(rollout, number, now)   the frame-day table as stage ``number`` is judged by it
    evaluate(rollout_id, now)        one look, kept as a Look; outside any lock that the engine takes
    evaluate_all(now)                a look at every rollout whose last one is FRAMEFLEET_LOOK_EVERY_S ago

Looking decides nothing: the tick reads the newest look. Two workers may look at once; the second leaves the rollout to
the first. Whatever goes wrong with a rollout, the others are looked at, and its newest look says HOLD.
"""

import datetime as dt
import logging
from dataclasses import replace

import numpy as np
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from fleet import clock
from fleet.groups import frames_matching
from ota.domain.analysis import ratio
from ota.domain.analysis.evaluate import evaluate as judge_table
from ota.domain.analysis.policy import COMPLETION, Policy, Stage
from ota.domain.analysis.table import Table
from ota.domain.analysis.verdict import judge
from ota.domain.deployment import DARK_AFTER
from ota.domain.plan import Plan
from ota.domain.rollout import RolloutState
from ota.locks import Lock, try_hold
from ota.models import Look, Rollout
from ota.services import evidence_table, looks
from ota.services.evidence_parts import benefit_of, parts_of, together
from ota.services.evidence_table import Assigned, Reading
from ota.services.facts import plan_of
from protocol.errors import Refused

log = logging.getLogger(__name__)

POLICY = Policy()
LOOKED_AT = (RolloutState.RUNNING, RolloutState.PAUSED)
MOST_DAYS = 120
"""A rollout that began longer ago is not looked at any more: its table would grow for ever."""
FEW = 0.02
"""A measure that fewer of a rollout's frames have, and fewer than can be compared, is none of the rollout's."""


def table_of(rollout: Rollout, number: int, now: dt.datetime, policy: Policy = POLICY) -> Table:
    """The table by which stage ``number`` (from 1) is judged. Raises ValueError when the rollout has not begun, or when
    the stage leaves nobody to compare with."""
    reading = evidence_table.read(rollout, now)
    meant = evidence_table.assigned(reading, plan_of(rollout), number)
    return evidence_table.table(reading, meant, fitting(reading, meant, policy)[0])


def evaluate(
    rollout_id: int, now: dt.datetime | None = None, policy: Policy = POLICY, *, only_if_due: bool = False
) -> Look | None:
    """Look at the newest open stage, and keep what was found. None when there is nothing to look at: no open stage, or
    nobody to compare with; or while another worker looks at the same rollout (or, ``only_if_due``, has just done so).
    """
    now = now or clock.now()
    rollout = Rollout.objects.select_related("release").get(pk=rollout_id)
    if not _comparable(rollout, now):
        return None
    note_members(rollout, now)
    with transaction.atomic():
        if not try_hold(Lock.EVIDENCE, rollout_id) or (only_if_due and not is_due(rollout, now)):
            return None
        return _look(rollout, rollout.current_stage, now, policy)


def evaluate_all(now: dt.datetime | None = None, policy: Policy = POLICY) -> int:
    """Look at every rollout that is due. Returns how many looks were kept. Raises what the database raises when it is
    away."""
    now = now or clock.now()
    return sum(_evaluate_alone(rollout, now, policy) for rollout in due(now))


def due(now: dt.datetime) -> list[Rollout]:
    """Rollouts that are to be looked at now: never before at their stage, or not for FRAMEFLEET_LOOK_EVERY_S (real
    time)."""
    watched = Rollout.objects.filter(state__in=LOOKED_AT, current_stage__gt=0).order_by("pk")
    return [rollout for rollout in watched if _comparable(rollout, now) and is_due(rollout, now)]


def is_due(rollout: Rollout, now: dt.datetime) -> bool:
    """Whether its newest look is long enough ago."""
    last = Look.objects.filter(rollout=rollout).order_by("-id").values("at", "stage").first()
    if last is None or last["stage"] != rollout.current_stage:
        return True
    return clock.really(last["at"], now).total_seconds() >= settings.FRAMEFLEET_LOOK_EVERY_S


def note_members(rollout: Rollout, now: dt.datetime) -> None:
    """Keep what must not change later: who went dark and when, who left, who was of the target.

    Rows that the engine holds are left to the next look: nobody waits for anybody here.
    """
    given: dict[str, float | dt.datetime | None] = {"rollout": rollout.pk, "now": now, "began": rollout.began_at}
    given["silence_s"] = DARK_AFTER.total_seconds()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_GONE, given)
        cursor.execute(_LEFT, given)
    target = plan_of(rollout).target
    if target:
        _note_target(rollout, target)


_HELD = "SELECT d.id FROM ota_deployment d JOIN fleet_frame f ON f.id = d.frame_id WHERE d.rollout_id = %(rollout)s"
_SILENT = (
    "greatest(coalesce(f.last_seen, '-infinity'::timestamptz), coalesce(d.entered_at, '-infinity'::timestamptz), "
    "%(began)s::timestamptz) + %(silence_s)s * interval '1 second'"
)
_GONE = (
    f"UPDATE ota_deployment d SET dark_at = {_SILENT} FROM fleet_frame f WHERE f.id = d.frame_id AND d.id IN "  # noqa: S608
    f"({_HELD} AND d.dark_at IS NULL AND d.left_at IS NULL AND {_SILENT} <= %(now)s FOR UPDATE OF d SKIP LOCKED)"
)
_LEFT = (
    "UPDATE ota_deployment SET left_at = %(now)s WHERE id IN "  # noqa: S608
    f"({_HELD} AND d.left_at IS NULL AND f.lifecycle <> 'active' FOR UPDATE OF d SKIP LOCKED)"
)


def _note_target(rollout: Rollout, target: str) -> None:
    try:
        frames = frames_matching(target)
    except Refused as refused:
        log.warning("The target of rollout %d cannot be read: %s", rollout.pk, refused.detail)
        return
    new = rollout.deployments.filter(targeted=None)
    if new.exists():
        with transaction.atomic():
            free = list(new.select_for_update(skip_locked=True).values_list("pk", flat=True))
            rollout.deployments.filter(pk__in=free, frame__in=frames).update(targeted=True)
            rollout.deployments.filter(pk__in=free, targeted=None).update(targeted=False)


def fitting(reading: Reading, meant: Assigned, policy: Policy) -> tuple[Policy, tuple[str, ...]]:
    """The policy without measures that the rollout's frames cannot have, and their names: too few have it to ever be
    compared, such as power where hardly any has a meter, or none of the canaries has ever had it.

    One that canaries had before the release and have no more stays: it is missing, and holds the rollout.
    """
    # One frame with a meter among two thousand is no metric of the rollout, and no reason to hold it for ever.
    least = max(1.0, min(policy.comparable_frames, FEW * reading.units))
    absent = []
    for measure in policy.measures:
        if measure.name == COMPLETION:
            continue  # every film is watched to its end or not
        before, since = reading.measured(measure.name)
        unheard = bool(before.any()) and not bool((before & meant.canary).any())
        if np.count_nonzero(before | since) < least or (unheard and not bool((since & meant.canary).any())):
            absent.append(measure.name)
    kept = tuple(measure for measure in policy.measures if measure.name not in absent)
    return replace(policy, measures=kept), tuple(absent)


def _look(rollout: Rollout, number: int, now: dt.datetime, policy: Policy) -> Look:
    plan = plan_of(rollout)
    opened = rollout.stages.values_list("opened_at", flat=True).get(number=number) or now
    in_stage_h = (now - opened) / dt.timedelta(hours=1)
    reading = evidence_table.read(rollout, now)
    meant = evidence_table.assigned(reading, plan, number)
    policy, left_out = fitting(reading, meant, policy)
    table = evidence_table.table(reading, meant, policy)
    stage = _asking(plan, number, left_out)
    age_h = reading.telemetry_age_h
    found = replace(judge_table(table, stage, age_h, policy), ratio_log_e=ratio_of(meant, policy))
    verdict = judge(found, stage, in_stage_h, policy)
    parts = parts_of(table, meant, stage, age_h, policy) if plan.target else {}
    judged = {name: judge(one, stage, 0.0, policy) for name, one in parts.items()}
    if parts:
        verdict = together(verdict, judged)
    helped, met = benefit_of(table, meant, plan, policy)
    detail = looks.as_detail(found, verdict, stage, in_stage_h, policy, left_out, helped)
    if parts:
        detail["parts"] = {
            name: looks.as_detail(one, judged[name], stage, in_stage_h, policy, left_out)["metrics"]
            for name, one in parts.items()
        }
    return looks.store(rollout, number, now, verdict, detail, benefit=met)


def ratio_of(meant: Assigned, policy: Policy) -> float:
    """Largest log E of a wrong sample ratio over hardware strata, by assignment: whoever still waits for an offer is
    where the household's number says."""
    if not len(meant.u):
        return 0.0
    strata = int(meant.hardware.max()) + 1
    canaries = np.bincount(meant.hardware[meant.canary], minlength=strata)
    others = np.bincount(meant.hardware[~meant.canary], minlength=strata)
    return float(ratio.log_e_ratio(canaries, others, meant.share, policy.ratio_strength).max())


def _asking(plan: Plan, number: int, left_out: tuple[str, ...]) -> Stage:
    """The stage, without margins on what the fleet cannot measure."""
    stage = plan.steps()[number - 1].policy()
    return replace(stage, margins={name: margin for name, margin in stage.margins.items() if name not in left_out})


def _comparable(rollout: Rollout, now: dt.datetime) -> bool:
    """Whether there is an open stage with somebody to compare it with."""
    if rollout.state not in LOOKED_AT or rollout.current_stage == 0 or rollout.began_at is None:
        return False
    if now - rollout.began_at > dt.timedelta(days=MOST_DAYS):
        return False
    return plan_of(rollout).control_from(rollout.current_stage) is not None


def _evaluate_alone(rollout: Rollout, now: dt.datetime, policy: Policy) -> int:
    try:
        return int(evaluate(rollout.pk, now, policy, only_if_due=True) is not None)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        log.exception("Rollout %d cannot be looked at; the others are", rollout.pk)
        looks.store_failure(rollout, rollout.current_stage, now, policy, error)
        return 1
