"""One rollout takes the place of older ones: they end in the transaction in which it begins.

What they had in flight goes back to what it had before, so that no half-delivered release is ever what a frame returns
to; frames that have committed keep what they have until their turn comes in the new rollout.
"""

import datetime as dt

from ota.domain.actions import Abort
from ota.domain.causes import Cause, Code
from ota.domain.rollout import UNDER_WAY, NotAllowed
from ota.locks import Lock, hold
from ota.models import Rollout
from ota.services import deployments
from ota.services.effects import perform
from ota.services.facts import facts_of, state_of
from ota.services.membership import superseded


def lock(rollout: Rollout) -> list[Rollout]:
    """Those it supersedes, locked until the transaction ends. Before any advisory lock: whoever holds one of these rows
    may be waiting for that."""
    ids = superseded(rollout)
    if not ids:
        return []
    rows = Rollout.objects.select_for_update(of=("self",)).select_related("release", "group")
    return list(rows.filter(pk__in=ids).exclude(pk=rollout.pk).order_by("-pk"))


def check(rollout: Rollout, older: list[Rollout]) -> None:
    """Raises NotAllowed unless everything it supersedes is under way."""
    found = {one.pk: one.state for one in older}
    for pk in superseded(rollout):
        state = found.get(pk, "unknown")
        if state not in UNDER_WAY:
            raise NotAllowed(Cause(Code.SUPERSEDES_NONE, {"rollout": pk, "state": state.replace("_", " ")}))


def end_older(rollout: Rollout, actor: str, now: dt.datetime) -> None:
    """End what it supersedes; what has ended by itself meanwhile stays as it is."""
    older = lock(rollout)
    hold(Lock.ROLLOUTS)
    for one in older:
        if one.state not in UNDER_WAY:
            continue
        deployments.catch_up(one, now)
        cause = Cause(Code.SUPERSEDED, {"rollout": rollout.pk})
        perform(one, state_of(one), Abort(cause), facts_of(one, now), actor, "", now)
        one.superseded_by = rollout
        one.save(update_fields=["superseded_by"])
