from django.contrib.auth.models import User
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from fleet.services.tokens import create_token
from tests.dashboards.world import World

ELSEWHERE = {"REMOTE_ADDR": "203.0.113.7"}


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def test_prometheus_reads_the_fleet_as_it_is(client: Client, world: World) -> None:
    found = samples(client.get("/metrics").content.decode())
    assert found["framefleet_frames", frozenset({("simulated", "true")})] == 51
    assert found["framefleet_frames", frozenset({("simulated", "false")})] == 1
    assert found["framefleet_frames_seen_recently", frozenset()] == 52
    assert found["framefleet_rollouts", frozenset({("state", "running")})] == 1
    by_release = {labels: value for (name, labels), value in found.items() if name == "framefleet_frames_by_release"}
    assert sum(by_release.values()) == 52
    waiting = frozenset({("rollout", str(world.rollout.pk)), ("stage", "3"), ("state", "pending")})
    assert found["framefleet_rollout_frames", waiting] == world.rollout.deployments.filter(stage=3).count()
    assert "python_info" in {name for name, _labels in found}, "the process's own metrics are there too"


def test_metrics_can_be_read_twice(client: Client, world: World) -> None:
    assert client.get("/metrics").status_code == client.get("/metrics").status_code == 200


def test_strangers_read_nothing(client: Client, db: None) -> None:
    answer = client.get("/metrics", **ELSEWHERE)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert b"framefleet_" not in answer.content


def test_what_a_proxy_passes_on_does_not_count_as_this_machine(client: Client, db: None) -> None:
    assert client.get("/metrics", headers={"x-forwarded-for": "127.0.0.1"}).status_code == 401
    assert client.get("/metrics", headers={"forwarded": "for=127.0.0.1"}).status_code == 401


def test_a_token_or_a_login_opens_them_from_anywhere(client: Client, user: User) -> None:
    token = create_token(user, "prometheus")
    for kind in ("Token", "Bearer"):
        answer = client.get("/metrics", headers={"authorization": f"{kind} {token}"}, **ELSEWHERE)  # type: ignore[arg-type]
        assert answer.status_code == 200
    assert client.get("/metrics", headers={"authorization": "Token wrong"}, **ELSEWHERE).status_code == 401  # type: ignore[arg-type]
    client.force_login(user)
    assert client.get("/metrics", **ELSEWHERE).status_code == 200  # type: ignore[arg-type]
