"""``framectl`` against the real web server and database. Publishing and frames are played by a thread."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from framectl.__main__ import main
from framectl.offline import OfflineFolder
from protocol.chunks import sha256_hex
from tests.framectl.conftest import BASE, Desk, adapter, agent

pytestmark = pytest.mark.django_db(transaction=True)

Framectl = Callable[..., int]


@pytest.fixture
def desk(server: str, tmp_path: Path) -> Desk:
    """An offline folder made with the server's own online keys."""
    offline = tmp_path / "offline"
    assert main(["keys", "create", "--out", str(offline)]) == 0
    return Desk(tmp_path, offline)


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Call ``work`` again and again in a thread while the block runs."""
    from django.db import connection

    stopping = threading.Event()
    problems: list[BaseException] = []

    def loop() -> None:
        try:
            while not stopping.is_set():
                work()
                time.sleep(0.05)
        except BaseException as problem:
            problems.append(problem)
        finally:
            connection.close()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    assert not problems


@contextmanager
def bridge() -> Iterator[None]:
    """Somebody publishes what is pending."""
    from tests.ota.world import publish_all

    with meanwhile(publish_all):
        yield


@pytest.fixture
def pushed(desk: Desk) -> Desk:
    """1.0 is on the server, signed and published."""
    assert main(["repository", "init", "--offline", str(desk.offline)]) == 0
    assert desk.sign_base() == 0
    with bridge():
        assert main(["release", "push", str(desk.package("1.0"))]) == 0
    return desk


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON a command prints."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def sentence(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence a command fails with."""
    capsys.readouterr()
    assert main(list(arguments)) == 1
    text = capsys.readouterr()
    assert not text.out
    lines = text.err.strip().splitlines()
    return lines[-1]


def test_two_releases_go_from_the_desk_to_the_server(pushed: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert pushed.sign_adapter("1.1") == 0
    with bridge():
        release = printed(capsys, "release", "push", str(pushed.package("1.1")))
    assert release["published_at"] is not None
    assert release["publication"]["published"] == release["publication"]["total"] > 0
    listed = printed(capsys, "release", "list")
    assert [f"{one['name']} {one['version']}" for one in listed] == ["talking-portrait 1.1", "talking-portrait 1.0"]
    assert [artifact["kind"] for artifact in listed[0]["artifacts"]] == ["base_model", "lora_delta", "release"]


def test_a_release_with_an_agent_reaches_a_frames_desired_state(
    pushed: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    from ota.models import DesiredState, Release
    from ota.services import director
    from protocol.codec import decode
    from protocol.envelope import Envelope
    from protocol.messages import DesiredState as Message
    from tests.ota.world import enrol

    more = (
        "--adapter", pushed.file("1.1.adapter", adapter(BASE)), "--agent", pushed.file("agent.zip", agent("2.0")),
        "--min-agent", "2.0",
    )  # fmt: skip
    assert pushed.sign("1.1", "--base-release", "talking-portrait 1.0", *more) == 0
    with bridge():
        release = printed(capsys, "release", "push", str(pushed.package("1.1")))
    assert {one["kind"]: one["version"] for one in release["artifacts"]} == {
        "base_model": None, "lora_delta": None, "agent": "2.0", "release": None,
    }  # fmt: skip
    assert main(["release", "list"]) == 0
    assert "  2.0    yes" in capsys.readouterr().out

    enrol(1)
    director.set_desired(["frame-0000"], Release.objects.get(version="1.1"))
    envelope = decode(bytes(DesiredState.objects.get().envelope), Envelope)
    message = decode(envelope.payload, Message)
    assert {target.path for target in message.targets} == {
        "base/talking-portrait-1.0.bundle", "lora/talking-portrait-1.1.adapter", "agent/talking-portrait-1.1.zip",
    }  # fmt: skip

    main(["groups", "create", "all"])
    plan = ("--release", "talking-portrait 1.1", "--group", "all", "--stages", "100", "--with-base-model")
    assert printed(capsys, "rollout", "preview", *plan)["agent"] == "2.0"
    assert main(["rollout", "preview", *plan]) == 0
    assert "It brings agent 2.0." in capsys.readouterr().out


def test_pushing_again_goes_on_where_it_stopped(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    main(["repository", "init", "--offline", str(desk.offline)])
    desk.sign_base()
    package = str(desk.package("1.0"))
    assert "not published within 0 s" in sentence(capsys, "release", "push", package, "--timeout", "0")
    with bridge():
        assert main(["release", "push", package]) == 0
    assert main(["release", "push", package, "--timeout", "0"]) == 0


@pytest.mark.parametrize("left", [None, 1000])
def test_pushing_again_brings_back_what_the_server_has_lost(
    pushed: Desk, settings: Any, left: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    artifacts = Path(settings.STORAGES["artifacts"]["OPTIONS"]["location"])
    sha256 = sha256_hex(BASE)
    stored = artifacts / sha256[:2] / sha256
    if left is None:
        stored.unlink()
    else:
        with stored.open("r+b") as file:
            file.truncate(left)
    assert main(["release", "push", str(pushed.package("1.0"))]) == 0
    assert stored.read_bytes() == BASE


def test_packages_are_pushed_in_the_order_they_were_signed(pushed: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    pushed.sign_adapter("1.1")
    pushed.sign_adapter("1.2", adapter(BASE, b"\x02"))
    assert "push the packages that were signed before" in sentence(
        capsys, "release", "push", str(pushed.package("1.2"))
    )
    with bridge():
        assert main(["release", "push", str(pushed.package("1.1"))]) == 0
        assert main(["release", "push", str(pushed.package("1.2"))]) == 0


def test_a_repository_begins_once_and_only_with_the_servers_own_online_keys(
    pushed: Desk, tmp_path: Path, online_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert main(["keys", "create", "--out", str(other)]) == 0
    assert sentence(capsys, "repository", "init", "--offline", str(other))
    foreign = tmp_path / "foreign"
    assert main(["keys", "create", "--out", str(foreign), "--online", str(online_file)]) == 0
    assert sentence(capsys, "repository", "init", "--offline", str(foreign))


def test_a_copy_of_the_folder_catches_up_and_signs_on(
    pushed: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Desk(tmp_path, tmp_path / "copy")
    shutil.copytree(pushed.offline, copy.offline)
    pushed.sign_adapter("1.1")
    with bridge():
        assert main(["release", "push", str(pushed.package("1.1"))]) == 0
    pulled = printed(capsys, "repository", "pull", "--offline", str(copy.offline))
    assert pulled == {"documents": {"lora": 2, "release": 3}, "releases": ["talking-portrait-1.1"]}
    assert printed(capsys, "repository", "pull", "--offline", str(copy.offline))["documents"] == {}
    assert copy.sign_adapter("1.2", adapter(BASE, b"\x02"), base_version="1.1") == 0
    with bridge():
        assert main(["release", "push", str(copy.package("1.2"))]) == 0


def test_what_was_signed_and_not_pushed_is_dropped_only_when_asked(
    pushed: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed.sign_adapter("1.1")
    pull = ["repository", "pull", "--offline", str(pushed.offline)]
    assert "lora 2, release 3" in sentence(capsys, *pull)
    with OfflineFolder.open(pushed.offline) as folder:
        assert folder.documents["lora"].signed.version == 2
    assert main([*pull, "--discard-unpushed"]) == 0
    pushed.package("1.1").unlink()
    assert pushed.sign_adapter("1.1") == 0


def test_what_was_signed_here_is_not_dropped_because_others_signed_more(
    pushed: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two copies of a folder: the other one is two releases ahead of what this one never pushed."""
    copy = Desk(tmp_path / "desk-b", tmp_path / "copy")
    copy.path.mkdir()
    shutil.copytree(pushed.offline, copy.offline)
    assert copy.sign_adapter("1.5", adapter(BASE, b"\x05")) == 0
    with bridge():
        for version, fill in (("1.1", b"\x01"), ("1.2", b"\x02")):
            assert pushed.sign_adapter(version, adapter(BASE, fill)) == 0
            assert main(["release", "push", str(pushed.package(version))]) == 0
    assert "run framectl repository pull" in sentence(capsys, "release", "push", str(copy.package("1.5")))
    pull = ["repository", "pull", "--offline", str(copy.offline)]
    assert "lora 2, release 3" in sentence(capsys, *pull)
    assert main([*pull, "--discard-unpushed"]) == 0
    copy.package("1.5").unlink()
    assert copy.sign_adapter("1.5", adapter(BASE, b"\x05")) == 0
    with bridge():
        assert main(["release", "push", str(copy.package("1.5"))]) == 0


@pytest.mark.parametrize("token", ["中文", "a\nb", "a b", "\udcff", "\x7f"])
def test_an_odd_token_is_refused_before_anything_is_sent(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "This is no API token" in sentence(capsys, "frames", "--token", token)


def test_bytes_that_are_no_text_are_refused(pushed: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert "write it in UTF-8" in sentence(capsys, "groups", "create", "every\udcffone", "--query", "")


def test_waiting_bears_a_database_that_is_away(
    pushed: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    from ota.api import releases

    show, calls = releases.ReleaseDetail.get, 0

    def flaky(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OperationalError("the connection is lost")
        return show(*arguments, **named)

    monkeypatch.setattr(releases.ReleaseDetail, "get", flaky)
    assert main(["release", "push", str(pushed.package("1.0"))]) == 0
    assert calls == 3


def test_documents_of_another_repository_replace_nothing(
    pushed: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert main(["keys", "create", "--out", str(other)]) == 0
    before = {path: path.read_bytes() for path in (other / "metadata").iterdir()}
    assert sentence(capsys, "repository", "pull", "--offline", str(other), "--discard-unpushed")
    assert {path: path.read_bytes() for path in (other / "metadata").iterdir()} == before


def test_a_rollout_is_watched_until_it_ends(pushed: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    from ota.models import Deployment
    from ota.services import rollouts
    from tests.ota.world import enrol, report

    enrol(20, "zh", "zh")
    enrol(5, "en", "en")
    assert main(["groups", "create", "mandarin", "--query", "locale=zh"]) == 0
    (group,) = printed(capsys, "groups", "list")
    assert (group["name"], group["query"], group["frames"]) == ("mandarin", "locale=zh", 20)

    def frames_obey() -> None:
        rollouts.tick_all()
        for row in Deployment.objects.filter(state="offered").select_related("rollout"):
            report(row.frame_id, "committed", row.rollout.release_id, desired_version=row.desired_version)

    started = printed(
        capsys, "rollout", "start", "--release", "talking-portrait 1.0", "--group", "mandarin", "--stages", "25,100"
    )
    assert main(["rollout", "watch", str(started["id"]), "--timeout", "0"]) == 1
    capsys.readouterr()
    with meanwhile(frames_obey):
        assert main(["rollout", "watch", str(started["id"]), "--timeout", "30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"Rollout {started['id']}: talking-portrait 1.0 to mandarin, succeeded" in lines
    assert any(line.startswith("Stage 2   100 %") and line.endswith("complete") for line in lines)

    listed = printed(capsys, "frames", "--release", "talking-portrait 1.0")
    assert {frame["id"][:2] for frame in listed} == {"zh"}
    assert {frame["release_name"] for frame in listed} == {"talking-portrait 1.0"}
    assert len(printed(capsys, "frames", "--locale", "en")) == 5
    assert len(printed(capsys, "frames", "--group", "mandarin", "--limit", "7")) == 7
    assert main(["frames"]) == 0
    assert "zh-0000  zh      rk3588    talking-portrait 1.0  committed" in capsys.readouterr().out
    assert [row["state"] for row in printed(capsys, "rollout", "list")] == ["succeeded"]


def test_people_pause_resume_and_roll_back(pushed: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    from ota.services import rollouts
    from tests.ota.world import enrol

    enrol(3)
    main(["groups", "create", "all"])
    rollout = printed(capsys, "rollout", "start", "--release", "talking-portrait 1.0", "--group", "all")
    name = str(rollout["id"])
    assert printed(capsys, "rollout", "pause", name, "--reason", "lunch")["state"] == "paused"
    assert main(["rollout", "resume", name]) == 0
    assert f"Rollout {name} was paused, now is running." in capsys.readouterr().out
    assert sentence(capsys, "rollout", "resume", name)
    assert printed(capsys, "rollout", "rollback", name, "--reason", "lips")["state"] == "rolling_back"
    rollouts.tick_all()
    events = printed(capsys, "rollout", "watch", name)["events"]
    assert [event["reason"] for event in events if event["kind"] in ("pause", "paused")] == ["lunch"]


def test_a_group_has_hours_and_a_budget_and_a_rollout_asks_before_a_base_model(
    pushed: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.ota.world import enrol, report

    main(["groups", "create", "all"])
    capsys.readouterr()
    assert main(["groups", "transfer", "all", "--quiet-hours", "08:00-22:00", "--daily-mb", "200"]) == 0
    assert "quiet 08:00-22:00, 200 MB a day" in capsys.readouterr().out
    (group,) = printed(capsys, "groups", "list")
    assert (group["quiet_hours"], group["daily_mb"]) == ("08:00-22:00", 200)
    assert "08:00-22:00" in sentence(capsys, "groups", "transfer", "all", "--quiet-hours", "8-22")
    assert "budget" in sentence(capsys, "groups", "transfer", "all", "--daily-mb", "0")
    assert main(["groups", "transfer", "all"]) == 0
    assert "no bounds" in capsys.readouterr().out

    for frame in enrol(3):
        report(frame, "idle", None)
    start = ("rollout", "start", "--release", "talking-portrait 1.0", "--group", "all")
    assert "3 of 3 frames of the group all lack base/" in sentence(capsys, *start)
    assert printed(capsys, *start, "--with-base-model")["state"] == "running"


def test_a_frame_is_shown_with_its_failure_and_lip_errors(pushed: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    from fleet.services.reports import record_reported
    from protocol.errors import Reason
    from protocol.messages import Failure
    from tests.fleet.factories import make_frame, reported

    make_frame("frame-1")
    why = Failure(reason=Reason.TRIAL_FAILED, detail="The lip error is 0.95 mm.\x1b[2J")
    record_reported("frame-1", reported("frame-1", state="reverted", failure=why))
    assert main(["frames", "show", "frame-1"]) == 0
    text = capsys.readouterr().out
    assert "Failure: trial_failed: The lip error is 0.95 mm." in text
    assert "mandarin  0.34 mm    1.30 mm    0.80 mm" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("frames", "show", "nobody"), "no frame"),
        (("frames", "--group", "nobody"), "no group"),
        (("frames", "--release", "portrait 9.9"), "no release"),
        (("frames", "--release", "portrait"), "names no release"),
        (("rollout", "watch", "7"), "no rollout"),
        (("rollout", "start", "--release", "portrait 1.0", "--group", "x"), "no release"),
        (("groups", "create", "x", "--query", "weight=3"), "weight"),
        (("groups", "transfer", "nobody"), "no group"),
        (("groups", "transfer", "nobody", "--quiet-hours", "8-22"), "no group"),
        (("frames", "--token", "wrong"), "does not accept this token"),
    ],
)
def test_what_the_server_refuses_is_one_sentence(
    server: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in sentence(capsys, *arguments)


def test_a_server_that_is_away_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--server", "http://127.0.0.1:9", "--token", "t")
    assert "does not answer" in sentence(capsys, "frames", *where)
    assert "no server address" in sentence(capsys, "frames", "--server", "127.0.0.1:9", "--token", "t")


@pytest.mark.parametrize("stages", ["", "5,5", "0", "50,20", "101", "a", "nan", ",".join(map(str, range(1, 30)))])
def test_odd_stages_are_wrong_usage(stages: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as wrong:
        main(["rollout", "start", "--release", "a 1", "--group", "b", "--stages", stages])
    assert wrong.value.code == 2
