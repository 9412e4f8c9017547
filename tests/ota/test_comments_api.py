"""What people say about a rollout stays in its trail and changes nothing."""

from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from fleet.models import AuditEntry, FrameGroup
from fleet.permissions import Role
from fleet.services.tokens import create_token
from ota.models import Look, Release, Rollout
from ota.services import rollouts
from tests.fleet.factories import make_user
from tests.ota.world import Enrol

pytestmark = pytest.mark.django_db


@pytest.fixture
def rollout(release_1_0: Release, zh: FrameGroup, frames: Enrol) -> Rollout:
    frames(4)
    return rollouts.start(release_1_0, zh, [1.0], "li", "")


def say(rollout: Rollout, role: Role = Role.OPERATOR, **body: Any) -> Any:
    client = APIClient()
    user = make_user(f"user-{role.word}-{len(body)}", role)
    client.credentials(HTTP_AUTHORIZATION=f"Token {create_token(user, 'test')}")
    return client.post(f"/api/v1/rollouts/{rollout.pk}/comment/", body, format="json")


def test_a_comment_stands_in_the_trail_and_moves_nothing_on(rollout: Rollout) -> None:
    before = Rollout.objects.get().revision
    answer = say(rollout, text=" The lips look right at our place. ")
    assert answer.status_code == 201, answer.content
    event = rollout.events.latest("id")
    assert (event.kind, event.reason) == ("commented", "The lips look right at our place.")
    assert Rollout.objects.get().revision == before
    assert AuditEntry.objects.filter(action="rollout.commented").count() == 1


def test_a_verdict_is_acknowledged_as_it_was_seen(rollout: Rollout) -> None:
    none = say(rollout, text="", acknowledge=True)
    assert none.status_code == 409
    assert "no verdict yet" in none.json()["detail"]
    look = Look.objects.create(
        rollout=rollout, stage=1, at=timezone.now(), decision="hold", reason="dwell", log_total=0.0, needed=3.0
    )
    answer = say(rollout, Role.RELEASER, text="", acknowledge=True)
    assert answer.json()["kind"] == "acknowledged"
    seen = rollout.events.latest("id").detail["look"]
    assert (seen["id"], seen["decision"], seen["reason"]) == (look.pk, "hold", "dwell")


@pytest.mark.parametrize("text", ["", "   ", "x" * 501])
def test_nothing_and_too_much_are_refused(rollout: Rollout, text: str) -> None:
    answer = say(rollout, text=text)
    assert answer.status_code == 400
    assert answer.json()["detail"].endswith(".")


def test_a_viewer_only_reads(rollout: Rollout) -> None:
    assert say(rollout, Role.VIEWER, text="hello").status_code == 403
