"""``framectl rollout`` against the real web server: plans from options, previews, explanations, freezes, webhooks."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from framectl.__main__ import main
from framectl.commands.rollout_watch import verdict_lines

OPTIONS = shlex.split(
    "--holdback 10 --gate 1:manual --dwell 24 --dwell 2:36 --margin completion=4% --margin 2:complaint=3 "
    "--window 22:00-05:00 --blackout 2099-12-24..2099-12-26 --start-at 2099-12-01T08:00+08:00 "
    "--end-at 2100-01-07T00:00Z --per-minute 30 --at-once 100 --per-site 2 --jitter 60 --priority 5 "
    "--retry disk_full=2 --timeout-h 48 --target locale=zh --benefit complaint=0.8 --pause-on-harm"
)
RELEASE = ("--release", "talking-portrait 1.0", "--group", "zh")


@pytest.fixture
def fleet(server: str) -> None:
    """A release and thirty frames, without the ceremony that other tests are about."""
    from fleet.models import FrameGroup
    from ota import repository
    from tests.ota.offline import Offline, file
    from tests.ota.world import BASE, enrol, push

    offline = Offline()
    repository.accept_first(offline.first())
    push(offline.release("talking-portrait", "1.0", [file("base/talking-portrait-1.0.bundle", BASE, "base_model")]))
    enrol(30)
    FrameGroup.objects.create(name="zh", query="locale=zh")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def text(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def sentence(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 1
    return capsys.readouterr().err.strip()


@pytest.mark.django_db(transaction=True)
def test_a_rollout_from_its_draft_to_its_trail(fleet: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draft = printed(capsys, "rollout", "draft", *RELEASE, "--policy", "small-fleet", *OPTIONS)
    plan, name = draft["plan"], str(draft["id"])
    assert [stage["gate"] for stage in plan["stages"]] == ["manual", "evidence", "committed"]
    assert [stage["dwell_h"] for stage in plan["stages"]] == [24.0, 36.0, 0.0]
    assert plan["stages"][0]["margins"] == {"completion": 0.04, "power": 0.1, "complaint": 4.0}
    assert plan["stages"][1]["margins"]["complaint"] == 3.0
    assert plan["windows"] == [{"opens": 22 * 60, "closes": 5 * 60}]
    assert plan["blackout"] == [{"first": "2099-12-24", "last": "2099-12-26"}]
    assert (plan["holdback"], plan["per_site"], plan["jitter_s"], plan["priority"]) == (0.1, 2, 60, 5)
    assert (plan["retries"], plan["timeout_h"], plan["guardrails"]) == ({"disk_full": 2}, 48.0, False)
    assert (plan["target"], plan["benefit"]) == ("locale=zh", {"metric": "complaint", "at_least": 0.8})

    seen = text(capsys, "rollout", "preview", name)
    assert "talking-portrait 1.0 to zh: 30 frames in 30 households" in seen
    assert "Warning: The group has 0 days of history" in seen
    begun = text(capsys, "rollout", "start", name, "--reason", "lips")
    assert begun.startswith(f"Rollout {name} begins at its hour")
    assert main(["rollout", "watch", name, "--timeout", "0"]) == 1
    assert "Waits    It begins at 2099-12-01T" in capsys.readouterr().out

    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"stages": [{"share": 0.5}, {"share": 1.0}], "priority": 9}))
    assert "is under way" not in text(capsys, "rollout", "preview", *RELEASE, "--plan", str(file))
    taken = printed(capsys, "rollout", "start", *RELEASE, "--plan", str(file), "--supersede", name)
    assert taken["state"] == "running"
    assert printed(capsys, "rollout", "watch", name)["superseded_by"] == taken["id"]

    assert "is in stage" in text(capsys, "rollout", "explain", str(taken["id"]), "frame-0003")
    assert "keeps your words" in text(capsys, "rollout", "comment", str(taken["id"]), "seen it")
    assert "no verdict yet" in sentence(capsys, "rollout", "comment", str(taken["id"]), "ok", "--acknowledge")
    assert "frozen" in text(capsys, "rollout", "freeze", "--reason", "outage")
    assert printed(capsys, "rollout", "lift")["freeze"] is None
    assert "keeps what it has" in text(capsys, "frames", "pin", "frame-0003", "--reason", "at the museum")
    assert "pinned (at the museum)" in text(capsys, "rollout", "explain", str(taken["id"]), "frame-0003")
    assert "may have frame frame-0003 again" in text(capsys, "frames", "unpin", "frame-0003")
    assert printed(capsys, "frames", "drift") == []


@pytest.mark.django_db(transaction=True)
def test_what_makes_no_sense_is_one_sentence(fleet: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ("rollout", "start", *RELEASE)
    for more, said in {
        ("--margin", "completion=-1"): "must be above 0",
        ("--stages", "5,100", "--gate", "2:evidence"): "nobody to compare with",
        ("--gate", "7:manual"): "There is no stage 7",
        ("--start-at", "2020-01-01T00:00Z"): "in the past",
        ("--retry", "lunch=1"): "cannot be read",
        ("--supersede", "99"): "99",
        ("--emergency",): "needs a stated reason",
    }.items():
        assert said in sentence(capsys, *start, *more)
    odd = tmp_path / "plan.json"
    odd.write_text("[]")
    assert "is no plan" in sentence(capsys, *start, "--plan", str(odd))
    assert "number of a draft" in sentence(capsys, "rollout", "start")
    assert "alone" in sentence(capsys, "rollout", "start", "1", "--group", "zh")
    assert "number of a draft" in sentence(capsys, "rollout", "preview")


@pytest.mark.django_db(transaction=True)
def test_webhooks_are_made_tried_and_removed(server: str, capsys: pytest.CaptureFixture[str], settings: Any) -> None:
    assert "not a public one" in sentence(capsys, "webhooks", "add", "https://127.0.0.1/")
    settings.FRAMEFLEET_WEBHOOKS_PRIVATE = True
    made = printed(capsys, "webhooks", "add", "http://127.0.0.1:9/", "--events", "paused,rolling_back")
    name = str(made["id"])
    assert "paused, rolling_back" in text(capsys, "webhooks", "list")
    assert "did not take the test: No answer" in sentence(capsys, "webhooks", "test", name)
    assert [row["state"] for row in printed(capsys, "webhooks", "deliveries", name)] == ["failed"]
    assert "told nothing any more" in text(capsys, "webhooks", "remove", name)
    assert "no webhook" in sentence(capsys, "webhooks", "test", name)


@pytest.mark.parametrize(
    "option",
    [
        ("--window", "25:00-05:00"),
        ("--window", "2-5"),
        ("--blackout", "Christmas"),
        ("--start-at", "tomorrow"),
        ("--start-at", "2099-12-01T08:00"),
        ("--margin", "completion"),
        ("--margin", "completion=nan"),
        ("--gate", "2:lunch"),
        ("--dwell", "2:long"),
        ("--holdback", "60"),
        ("--supersede", "7,x"),
        ("--policy", "bold"),
    ],
)
def test_odd_options_are_wrong_usage(option: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as wrong:
        main(["rollout", "start", "--release", "a 1", "--group", "b", *option])
    assert wrong.value.code == 2


def test_a_verdict_is_told_with_its_evidence_in_peoples_units() -> None:
    metric: dict[str, Any] = {
        "name": "completion",
        "standing": "not_enough",
        "estimate": -0.005,
        "low": -0.021,
        "high": 0.011,
        "limit": -0.03,
        "harm_evidence": 0.04,
        "harmless_evidence": 3.21,
        "canary_n": 1200,
        "control_n": 5000,
    }
    benefit = {"metric": "complaint", "where": "target", "estimate": 0.4, "low": 0.2, "high": 0.8, "better": True}
    lines = verdict_lines(
        {
            "sentence": "Hold: not enough evidence yet about completion.",
            "evidence": 0.44,
            "needed": 20.0,
            "metrics": [metric, {**metric, "name": "power", "estimate": None, "limit": None}],
            "benefit": [benefit],
        }
    )
    assert lines == [
        "Verdict  Hold: not enough evidence yet about completion. Evidence of harm in all: 0.44, where 20 is enough.",
        "  completion -0.5 points (-2.1 points to +1.1 points); limit -3.0 points; harmless 3.21 of 20; harm 0.04; "
        "n 1200 / 5000; not enough evidence",
        "  power      no estimate; harmless 3.21 of 20; harm 0.04; n 1200 / 5000; not enough evidence",
        "Benefit  complaint (target): x0.40 (x0.20 to x0.80); better",
    ]
