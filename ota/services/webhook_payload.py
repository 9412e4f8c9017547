"""What a webhook is told: the event, where its rollout stands, the newest verdict, and whether the fix helped."""

import json
from typing import Any

import msgspec

from ota.models import RolloutEvent, WebhookDelivery
from ota.selectors import rollout_summary
from ota.selectors_looks import verdict_of

MAX_BODY = 128 * 1024


def payload(delivery: WebhookDelivery) -> str:
    """The body, JSON of at most MAX_BODY bytes; what the event says of its evidence is left out before that is passed.

    ``{"delivery", "event": {"id", "kind", "at", "actor", "reason", "detail"}, "rollout", "verdict", "benefit"}``; of a
    test, the event alone.
    """
    event = delivery.event
    if event is None:
        return json.dumps({"delivery": delivery.pk, "event": {"kind": delivery.kind}})
    told = {"delivery": delivery.pk, "event": _event(event), **_standing(event)}
    for lighten in (_nothing, _without_look, _without_metrics, _without_detail):
        lighten(told)
        body = json.dumps(told, ensure_ascii=False, default=str)
        if len(body.encode()) <= MAX_BODY:
            return body
    return json.dumps({"delivery": delivery.pk, "event": {"id": event.pk, "kind": event.kind}})


def _event(event: RolloutEvent) -> dict[str, Any]:
    return {
        "id": event.pk,
        "kind": event.kind,
        "at": event.at.isoformat(),
        "actor": event.actor,
        "reason": event.reason,
        "detail": dict(event.detail),
    }


def _standing(event: RolloutEvent) -> dict[str, Any]:
    rollout = event.rollout
    verdict = verdict_of(rollout)
    return {
        "rollout": msgspec.to_builtins(rollout_summary(rollout)),
        "verdict": None if verdict is None else msgspec.to_builtins(verdict),
        "benefit": [] if verdict is None else msgspec.to_builtins(verdict.benefit),
    }


def _nothing(told: dict[str, Any]) -> None:
    pass


def _without_look(told: dict[str, Any]) -> None:
    told["event"]["detail"].pop("look", None)


def _without_metrics(told: dict[str, Any]) -> None:
    if told["verdict"] is not None:
        told["verdict"]["metrics"] = []


def _without_detail(told: dict[str, Any]) -> None:
    told["event"]["detail"] = {}
