"""What people say about a rollout: remarks in its trail, and that they have seen a verdict. Its state stays."""

import datetime as dt

from django.db import transaction

from fleet import clock
from ota.domain.rollout import NotAllowed
from ota.models import Look, Rollout, RolloutEvent
from ota.services.effects import note

MAX_TEXT = 500


@transaction.atomic
def comment(
    rollout_id: int, text: str, actor: str, look: int | None = None, now: dt.datetime | None = None
) -> RolloutEvent:
    """Write ``text`` into the rollout's trail: as "acknowledged" where it is about the verdict of ``look`` (its id; the
    text may then be empty), else as "commented". Saying the same twice in a row is saying it once.

    Raises Rollout.DoesNotExist, NotAllowed with one sentence for a text that is empty, too long or odd, and for a look
    that the rollout does not have.
    """
    rollout = Rollout.objects.select_for_update(of=("self",)).select_related("release", "group").get(pk=rollout_id)
    said = text.strip()
    if not said and look is None:
        raise NotAllowed("Write something: the trail keeps it for whoever asks later.")
    if len(said) > MAX_TEXT or "\0" in said:
        raise NotAllowed(f"Write at most {MAX_TEXT} plain characters.")
    kind, detail = ("commented", {}) if look is None else ("acknowledged", _verdict(rollout, look))
    last = rollout.events.order_by("-id").first()
    if last is not None and (last.kind, last.actor, last.reason, last.detail) == (kind, actor, said, detail):
        return last
    return note(rollout, kind, actor, said, detail, now or clock.now())


def _verdict(rollout: Rollout, look: int) -> dict[str, object]:
    found = Look.objects.filter(pk=look, rollout=rollout).values("id", "stage", "decision", "reason", "metrics").first()
    if found is None:
        raise NotAllowed(f"Rollout {rollout.pk} has no look {look}: open its page again.")
    return {"look": dict(found)}
