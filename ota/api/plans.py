"""What a body asks a rollout to be: a policy's name, plain shares, or a whole plan; and ``rollouts/policies/``.

    {"policy": "small-fleet", "holdback": 0.05, "plan": {"end_at": "2027-01-07T00:00:00Z"}}
    {"stages": [0.05, 0.25, 1.0]}
    {"plan": {"stages": [{"share": 0.1, "gate": "evidence", "margins": {"completion": 0.05}}, {"share": 1.0}]}}

A policy or shares give the stages; ``plan`` gives all the rest, or all of it.
"""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest
from ota.api.bodies import field
from ota.domain.plan import POLICIES, Plan, PlanRefused, by_evidence, kept, of_shares, read

MAX_SUPERSEDED = 20
_BIGGEST_ID = 2**63 - 1


class Policies(APIView):
    """``GET rollouts/policies/``"""

    def get(self, request: Request) -> Response:
        """Each policy's name -> its plan, to be changed and sent as ``plan``."""
        return Response({name: kept(by_evidence(name)) for name in POLICIES})


def plan_of_body(request: Request) -> Plan:
    """The plan that the body gives. Raises BadRequest; whether it makes sense is ``ota.domain.plan.check``'s."""
    body = request.data if isinstance(request.data, dict) else {}
    try:
        stages = _stages_of(request, body)
        rest = field(request, "plan", dict, {})
        if stages is None:
            if "stages" not in rest:
                raise BadRequest(
                    'The body lacks "stages": give shares such as [0.05, 0.25, 1.0], or a "policy", or a whole "plan".'
                )
            return read(_held(request, body, dict(rest)))
        if "stages" in rest:
            raise BadRequest('Stages are given twice: leave them out of "plan", or give the plan alone.')
        return read({**kept(stages), **rest})
    except PlanRefused as refused:
        raise BadRequest(str(refused)) from None


def superseded(request: Request) -> list[int]:
    """The rollouts (ids) whose place the new one takes; empty for none."""
    given = field(request, "supersede", list, [])
    if len(given) > MAX_SUPERSEDED:
        raise BadRequest(f"A rollout takes the place of {MAX_SUPERSEDED} others at most, not {len(given)}.")
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 < one <= _BIGGEST_ID for one in given):
        raise BadRequest('"supersede" must be a list of rollouts\' ids such as [7].')
    return list(given)


def _stages_of(request: Request, body: dict[str, Any]) -> Plan | None:
    if "policy" in body and "stages" in body:
        raise BadRequest('Stages are given twice: give "policy" or "stages".')
    if "policy" in body:
        held = _number(request, "holdback") if "holdback" in body else None
        return by_evidence(field(request, "policy", str), held)
    if "stages" not in body:
        return None
    return read(_held(request, body, kept(of_shares(_shares(request)))))


def _held(request: Request, body: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    return {**plan, "holdback": _number(request, "holdback")} if "holdback" in body else plan


def _shares(request: Request) -> list[float]:
    given = field(request, "stages", list)
    if not all(isinstance(share, int | float) and not isinstance(share, bool) for share in given):
        raise BadRequest('"stages" must be a list of shares such as [0.05, 0.25, 1.0].')
    try:
        return [float(share) for share in given]
    except OverflowError:
        raise BadRequest('"stages" holds an endless number: give shares such as [0.05, 0.25, 1.0].') from None


def _number(request: Request, name: str) -> float:
    given = field(request, name, object)
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise BadRequest(f'"{name}" must be a number such as 0.05.')
    try:
        return float(given)
    except OverflowError:
        raise BadRequest(f'"{name}" is an endless number: give one such as 0.05.') from None
