"""What a body may ask a rollout to be, drafts, and one sentence for everything that makes no sense."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from fleet.models import FrameGroup
from fleet.permissions import Role
from fleet.services.tokens import create_token
from ota.models import Release, Rollout
from tests.fleet.factories import make_user
from tests.ota.world import Enrol

pytestmark = pytest.mark.django_db

ROLLOUTS = "/api/v1/rollouts/"
WHAT = {"release": "talking-portrait 1.0", "group": "zh"}


def client(name: str = "li", role: Role = Role.ADMIN) -> APIClient:
    found = APIClient()
    found.credentials(HTTP_AUTHORIZATION=f"Token {create_token(make_user(name, role), 'test')}")
    return found


@pytest.fixture
def api(release_1_0: Release, zh: FrameGroup, frames: Enrol) -> APIClient:
    frames(40)
    return client()


def post(api: APIClient, path: str = "", **body: Any) -> Any:
    return api.post(ROLLOUTS + path, body, format="json")


def refused(answer: Any, status: int = 400) -> str:
    assert answer.status_code == status, answer.content
    sentence = answer.json()["detail"]
    assert sentence.endswith(".")
    return str(sentence)


def test_a_policy_gives_the_stages_and_the_plan_the_rest(api: APIClient) -> None:
    answer = post(api, **WHAT, policy="small-fleet", plan={"per_minute": 30, "end_at": "2099-01-07T00:00:00Z"})
    assert answer.status_code == 201, answer.content
    shown = answer.json()
    assert [(stage["share"], stage["gate"]) for stage in shown["stages"]] == [
        (0.1, "evidence"),
        (0.25, "evidence"),
        (0.95, "committed"),
        (1.0, "committed"),
    ]
    assert shown["stages"][0]["margins"] == {"completion": 0.05, "power": 0.1, "complaint": 4.0}
    assert (shown["plan"]["per_minute"], shown["end_at"]) == (30, "2099-01-07T00:00:00Z")


def test_the_policies_can_be_read_changed_and_sent_whole(api: APIClient) -> None:
    plan = api.get(f"{ROLLOUTS}policies/").json()["standard"]
    plan["stages"][1]["margins"]["power"] = 0.2
    shown = post(api, **WHAT, plan=plan, holdback=0).json()
    assert shown["stages"][1]["margins"]["power"] == 0.2
    assert len(shown["stages"]) == 4


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, 'lacks "stages"'),
        ({"policy": "bold"}, "There is no policy bold: use standard, small-fleet."),
        ({"policy": "standard", "stages": [1]}, "given twice"),
        ({"stages": [1], "plan": {"stages": [{"share": 1}]}}, "given twice"),
        ({"plan": {}}, 'lacks "stages"'),
        ({"plan": {"stages": [{"share": "5"}]}}, "cannot be read"),
        ({"stages": [1], "plan": {"dwell": 3}}, "unknown field `dwell`"),
        ({"stages": [0.5, 0.25]}, "ascending shares"),
        ({"stages": [10**400]}, "endless number"),
        ({"stages": [1], "holdback": "5"}, "must be a number"),
        ({"stages": [1], "holdback": 0.7}, "A holdback is"),
        ({"plan": {"stages": [{"share": 0.1, "margins": {"completion": -0.02}}]}}, "must be above 0"),
        ({"plan": {"stages": [{"share": 0.1, "margins": {"complaint": 0.5}}]}}, "must be above 1"),
        ({"plan": {"stages": [{"share": 1, "gate": "evidence"}]}}, "nobody to compare with"),
        ({"stages": [1], "plan": {"start_at": "2020-01-01T00:00:00Z"}}, "is in the past"),
        ({"stages": [1], "plan": {"start_at": "2099-01-01T00:00:00"}}, "no time zone"),
        ({"stages": [1], "plan": {"emergency": True}}, "needs a stated reason"),
        ({"stages": [1], "supersede": ["seven"]}, "list of rollouts' ids"),
        ({"stages": [1], "supersede": list(range(1, 30))}, "at most"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_with_one_sentence(
    api: APIClient, body: dict[str, Any], sentence: str
) -> None:
    assert sentence in refused(post(api, **WHAT, **body))
    assert not Rollout.objects.exists()


def test_a_draft_holds_nothing_can_be_changed_and_begins_when_somebody_starts_it(api: APIClient) -> None:
    draft = post(api, **WHAT, policy="standard", draft=True).json()
    assert (draft["state"], draft["frames"]) == ("draft", 0)
    where = f"{ROLLOUTS}{draft['id']}/"
    changed = api.put(where, {"stages": [0.5, 1], "seen_state": draft["seen_state"]}, format="json").json()
    assert [stage["share"] for stage in changed["stages"]] == [0.5, 1.0]
    late = api.put(where, {"stages": [1], "seen_state": draft["seen_state"]}, format="json")
    assert "moved on" in refused(late, 409)
    seen = changed["seen_state"]
    assert "ascending" in refused(api.put(where, {"stages": [1, 0.5], "seen_state": seen}, format="json"))
    assert 'lacks "stages"' in refused(api.put(where, {"holdback": 0.05, "seen_state": seen}, format="json"))
    begun = post(api, f"{draft['id']}/start/", seen_state=seen, reason="go").json()
    assert (begun["state"], begun["frames"]) == ("running", 40)
    assert [event["kind"] for event in begun["events"]] == ["drafted", "changed", "started"]
    over = api.put(where, {"stages": [1], "seen_state": begun["seen_state"]}, format="json")
    assert "is running, so change is not possible" in refused(over)


def test_who_may_steer_may_not_start_or_change_a_draft(api: APIClient) -> None:
    draft = post(api, **WHAT, stages=[1], draft=True).json()
    operator = client("op", Role.OPERATOR)
    seen = {"seen_state": draft["seen_state"]}
    assert "releaser" in refused(post(operator, f"{draft['id']}/start/", **seen), 403)
    assert "releaser" in refused(operator.put(f"{ROLLOUTS}{draft['id']}/", seen, format="json"), 403)


def test_an_emergency_waits_for_a_second_person(api: APIClient) -> None:
    shown = post(api, **WHAT, stages=[1], plan={"emergency": True}, reason="It burns.").json()
    assert shown["state"] == "proposed"
    seen = shown["seen_state"]
    assert "somebody else" in refused(post(api, f"{shown['id']}/approve/", seen_state=seen), 409)
    answer = post(client("wang"), f"{shown['id']}/approve/", seen_state=seen)
    assert answer.json()["state"] == "running"
