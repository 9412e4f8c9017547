"""`device-agent status`: JSON for programs, words for people, of a running agent and of one that is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from device_agent.__main__ import main
from device_agent.folder import AgentFolder
from device_agent.installer.slots import Installed, Journal, Probation, Slot
from device_agent.page.description import describe, disk
from device_agent.page.words import in_words
from device_agent.ports import FrameIdentity, TrialPolicy
from device_agent.storage.journal import FileJournal
from protocol.errors import Reason
from protocol.messages import Failure, LipError

IDENTITY = FrameIdentity("frame-1", "rk3588", "zh", "0.1.0")
POLICY = TrialPolicy(playbacks=3, healthy_s=86_400.0)
NOW = 1_700_000_000.0


def slot(letter: str) -> Slot:
    bundle = Installed(kind="base_model", path="base/b", length=1, sha256=letter * 64)
    return Slot(release=letter * 64, artifacts=(bundle,))


def journal(**changes: Any) -> Journal:
    content: dict[str, Any] = {
        "journal_id": "0" * 32, "state": "committed", "active": "A", "slot_a": slot("a"), "desired_version": 1,
    }  # fmt: skip
    return Journal(**(content | changes))


def words(status: dict[str, Any]) -> dict[str, str]:
    return {line[:14].strip(): line[14:] for line in in_words(status, NOW).splitlines()}


def test_a_frame_on_probation_says_how_far_it_has_come_and_what_the_trial_measured() -> None:
    probation = Probation(playbacks=1, healthy_s=9_000.0)
    measured = {"step_p50_ms": 0.512345, "fps": 88.0, "power_w": 3.2, "power_estimated": 1.0}
    lips = LipError(segment="mandarin", lip_mm=0.34, mean_pose_mm=1.24, limit_mm=0.5)
    status = describe(
        IDENTITY,
        journal(
            state="trial", slot_b=slot("b"), target="b" * 64, probation=probation, figures=measured, lip_errors=(lips,)
        ),
        POLICY,
    )
    assert status["release"] == "b" * 64, "on probation the new release plays"
    assert status["slot"] == "B"
    said = words(
        status | {"running": True, "online": True, "release_name": "portrait 1.1", "target_name": "portrait 1.1"}
    )
    assert said["Plays"] == "portrait 1.1 in slot B"
    assert said["State"] == "on probation"
    assert said["Probation"] == "1 of 3 playbacks, or 2.5 of 24 healthy hours"
    assert said["Trial"] == "step, median 0.5123 ms; frames drawn 88 per s; power 3.2 W; power is estimated"
    assert said["Lips"] == "mandarin 0.34 mm (a resting mouth 1.24, limit 0.50)"


def test_a_frame_that_went_back_says_why() -> None:
    failure = Failure(
        reason=Reason.TRIAL_FAILED, detail="The lip error on base is 0.61 mm; at most 0.45 mm is allowed."
    )
    said = words(describe(IDENTITY, journal(state="reverted", target="b" * 64, failure=failure), POLICY))
    assert said["Plays"] == f"release {'a' * 12} in slot A"
    assert said["State"] == "the last update went back"
    assert said["Failure"] == f"trial_failed: {failure.detail}"
    assert "Probation" not in said


def test_runtime_film_events_and_disk_are_told() -> None:
    status = describe(IDENTITY, journal(), POLICY) | {
        "running": True,
        "online": False,
        "runtime": {"uses": "CPU", "why": "The NPU failed in motion. The CPU runs it instead."},
        "last_playback": {
            "at": (NOW - 7_200) * 1000, "seconds": 4.7, "first_frame_ms": 41.2, "fps": 93.4, "complained": True,
        },
        "outbox_waiting": 12,
        "disk": {"free_mb": 5_120.0, "store_mb": 9.4},
    }  # fmt: skip
    said = words(status)
    assert said["Agent"] == "0.1.0, running, not connected"
    assert said["Runs on"] == "CPU: The NPU failed in motion. The CPU runs it instead."
    assert said["Last film"] == "2 h ago, 4.7 s long; first frame after 41 ms, 93 frames per s; lips did not match"
    assert said["Events"] == "12 wait for the backend"
    assert said["Disk"] == "5,120 MB free; releases take 9.4 MB"


@pytest.mark.parametrize(
    ("setting", "uses", "said"),
    [
        ("auto", None, "known after the first film (the setting is auto)"),
        ("auto", "NPU", "NPU"),
        ("auto", "CPU", "CPU: no NPU was found for this release"),
        ("onnx", "CPU", "CPU: the setting is onnx"),
    ],
)
def test_what_films_run_on_comes_with_its_reason(setting: str, uses: str | None, said: str) -> None:
    assert words({"runtime": {"setting": setting, "uses": uses, "why": None}})["Runs on"] == said


def test_a_blank_frame_is_told_too() -> None:
    said = words(describe(IDENTITY, None, POLICY) | {"running": False})
    assert said == {"Frame": "frame-1 (rk3588, zh)", "Agent": "0.1.0, not running"}
    assert words(describe(IDENTITY, Journal(journal_id="0" * 32), POLICY))["Plays"] == "no release yet"


@pytest.fixture
def folder(tmp_path: Path) -> AgentFolder:
    folder = AgentFolder(tmp_path)
    folder.identity.mkdir()
    frame = {"frame_id": "frame-1", "locale": "zh", "hardware": "rk3588"}
    (folder.identity / "frame.json").write_text(json.dumps(frame))
    FileJournal(folder.journal).save(journal())
    return folder


def test_programs_get_json_and_people_words(
    folder: AgentFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["status", "--dir", str(folder.path)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["running"], said["state"], said["slot"]) == (False, "committed", "A")
    assert said["disk"]["free_mb"] > 0
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["status", "--dir", str(folder.path)]) == 0
    assert capsys.readouterr().out.startswith("Frame         frame-1 (rk3588, zh)\n")
    assert main(["status", "--dir", str(folder.path), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    del again["disk"], said["disk"]  # others write to this disk meanwhile
    assert again == said


def test_a_folder_that_is_not_one_is_told_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("device-agent status: ")
    assert said.count("\n") == 1
    assert "claim the frame first" in said


def test_a_journal_that_cannot_be_read_is_told_and_left_where_it_is(
    folder: AgentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.journal.write_bytes(b"{")
    folder.journal.with_suffix(".copy.json").unlink()
    assert main(["status", "--dir", str(folder.path)]) == 1
    assert "journal cannot be read" in capsys.readouterr().err
    assert folder.journal.read_bytes() == b"{"


def test_the_disk_counts_what_releases_take(folder: AgentFolder) -> None:
    for part in ("store", "partial"):
        (folder.path / part).mkdir()
        (folder.path / part / "x").write_bytes(bytes(1_200_000))
    assert disk(folder)["store_mb"] == 2.4
