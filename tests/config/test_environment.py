"""The environment is checked: what is missing or odd is said in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import environment
from config.celery import configuration
from protocol.clock import PeopleClock

ROOT = Path(__file__).parents[2]
WHOLE = {"FRAMEFLEET_SECRET_KEY": "x", "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}


def test_a_database_url_becomes_djangos_settings() -> None:
    found = environment.database("postgresql://us%40er:p%2Fw@db.example:6432/fleet?sslmode=require")
    assert (found["USER"], found["PASSWORD"], found["HOST"], found["PORT"], found["NAME"]) == (
        "us@er",
        "p/w",
        "db.example",
        "6432",
        "fleet",
    )
    assert found["OPTIONS"] == {"sslmode": "require"}
    assert environment.database("postgres://u@h/d")["PORT"] == "5432"


@pytest.mark.parametrize(
    "url", ["sqlite:///x", "postgresql://h:70000/d", "postgresql:///d", "postgresql://h", "nonsense"]
)
def test_an_odd_database_url_is_refused(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL is not of the form postgresql://"):
        environment.database(url)


def test_peoples_clock_is_off_unless_somebody_sets_it() -> None:
    assert environment.people_clock({}, "CLOCK") is None
    assert environment.people_clock({"CLOCK": "1767225600000/60/20"}, "CLOCK") == PeopleClock(1767225600000, 60, 20)


@pytest.mark.parametrize("text", ["yes", "1/2", "1/x/3", "-1/60/20", "1767225600000/60/0", "1767225600000/nan/20"])
def test_an_odd_peoples_clock_is_refused(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^CLOCK="):
        environment.people_clock({"CLOCK": text}, "CLOCK")


def test_an_mqtt_url_is_optional_but_never_odd() -> None:
    assert environment.mqtt_url({}) == ""
    assert environment.mqtt_url({"MQTT_URL": "mqtts://127.0.0.1:8883"}) == "mqtts://127.0.0.1:8883"
    for odd in ("mqtt://127.0.0.1:1883", "mqtts://127.0.0.1", "mqtts://:1", "mqtts://h:x", "mqtts://h:1/path"):
        with pytest.raises(ImproperlyConfigured, match="is not of the form mqtts://host:port"):
            environment.mqtt_url({"MQTT_URL": odd})


def test_switches_and_lists_are_read_strictly() -> None:
    assert [environment.flag({"X": text}, "X") for text in ("", "0", "1", "Yes", "off")] == [
        False,
        False,
        True,
        True,
        False,
    ]
    with pytest.raises(ImproperlyConfigured, match="X='maybe' is neither on nor off"):
        environment.flag({"X": "maybe"}, "X")
    assert environment.names({"X": "a, b,"}, "X", "c") == ["a", "b"]
    with pytest.raises(ImproperlyConfigured, match="X is empty"):
        environment.names({"X": " , "}, "X", "c")


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    made = environment.folder({"X": str(tmp_path / "a" / "b")}, "X", tmp_path)
    assert made.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(ImproperlyConfigured, match="cannot be used as a folder"):
        environment.folder({"X": str(tmp_path / "file" / "below")}, "X", tmp_path)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_missing_variable_stops_the_process_with_one_sentence(name: str, tmp_path: Path) -> None:
    given = {key: value for key, value in WHOLE.items() if key != name}
    base = {key: value for key, value in os.environ.items() if key not in WHOLE}
    ran = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env=base | given | {"FRAMEFLEET_VAR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode != 0
    assert f"Set the environment variable {name}, for example {name}=" in ran.stderr.splitlines()[-1]


def test_celery_keeps_its_messages_below_the_var_folder(tmp_path: Path) -> None:
    found = configuration(tmp_path, "filesystem://")
    options = found["broker_transport_options"]
    assert Path(options["data_folder_in"]).is_dir()
    assert options["data_folder_in"] == options["data_folder_out"]
    assert options["polling_interval"] == 0.05
    assert found["task_ignore_result"]
    assert not found["worker_enable_remote_control"]


def test_celery_leaves_a_real_broker_alone(tmp_path: Path) -> None:
    assert "broker_transport_options" not in configuration(tmp_path, "redis://127.0.0.1/0")


def test_some_of_the_known_words_or_all_of_them() -> None:
    known = ("viewer", "admin")
    assert environment.chosen({}, "R", known) == frozenset()
    assert environment.chosen({"R": " Admin , viewer"}, "R", known) == frozenset(known)
    assert environment.chosen({"R": "all"}, "R", known) == frozenset(known)
    with pytest.raises(ImproperlyConfigured, match="R names root: use some of viewer, admin, or all"):
        environment.chosen({"R": "admin,root"}, "R", known)


@pytest.mark.parametrize("text", ["-1", "10", "x", "1.5", "9" * 5000])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    assert environment.number({}, "N", most=9) == 0
    assert environment.number({"N": "9"}, "N", most=9) == 9
    with pytest.raises(ImproperlyConfigured, match="no number from 0 to 9"):
        environment.number({"N": text}, "N", most=9)


@pytest.mark.parametrize("text", ["0", "101", "nan", "soon", "-5"])
def test_seconds_that_make_no_sense_are_refused(text: str) -> None:
    assert environment.seconds({}, "S", 15, least=0.5, most=100) == 15
    assert environment.seconds({"S": "0.5"}, "S", 15, least=0.5, most=100) == 0.5
    with pytest.raises(ImproperlyConfigured, match=r"no number of seconds from 0\.5 to 100"):
        environment.seconds({"S": text}, "S", 15, least=0.5, most=100)
