"""Settings: the later layer wins, the origin is shown, and what is wrong is said in one sentence."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from device_agent.__main__ import main
from device_agent.settings.kinds import ConfigError
from device_agent.settings.layers import Effective, Settings, load


def written(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_the_later_layer_wins_and_the_origin_is_kept(tmp_path: Path) -> None:
    file = written(tmp_path, 'runtime = "onnx"\nport = 8300\nsink = "raw"\nmedia = ["/photos"]\n')
    environment = {"FRAMEFLEET_AGENT_PORT": "8400", "FRAMEFLEET_AGENT_SINK": "none", "MQTT_URL": "mqtts://there:1"}
    effective = load({"port": "8500"}, environment, file)
    settings = effective.settings
    assert (settings.runtime, settings.sink, settings.port) == ("onnx", "none", 8500)
    assert settings.media == (Path("/photos"),)
    assert settings.mqtt == "mqtts://there:1"
    assert settings.trial_playbacks == Settings().trial_playbacks
    assert {name: effective.origins[name] for name in ("runtime", "sink", "port", "mqtt", "dir")} == {
        "runtime": str(file),
        "sink": "environment: FRAMEFLEET_AGENT_SINK",
        "port": "argument: --port",
        "mqtt": "environment: MQTT_URL",
        "dir": "default",
    }


def test_the_file_is_found_through_the_environment_and_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, "port = 8300\n")
    environment = {"FRAMEFLEET_AGENT_CONFIG": str(file), "FRAMEFLEET_AGENT_PORT": "", "MQTT_URL": ""}
    assert load({}, environment).settings == Settings(port=8300)


def test_folders_come_as_a_list_a_path_list_and_repeated_arguments(tmp_path: Path) -> None:
    both = (Path("/a"), Path("/b"))
    assert load({}, {}, written(tmp_path, 'media = ["/a", "/b"]')).settings.media == both
    assert load({}, {"FRAMEFLEET_AGENT_MEDIA": "/a:/b"}).settings.media == both
    assert load({"media": ["/a", "/b"]}, {}).settings.media == both


@pytest.mark.parametrize(("mask", "bits"), [("auto", 0), ("0", 1), ("1", 2), ("2", 4), ("0_1", 3), ("0_1_2", 7)])
def test_npu_cores_become_the_runtimes_bits(mask: str, bits: int) -> None:
    assert load({"npu_core_mask": mask}, {}).settings.core_mask == bits


def test_what_is_printed_is_a_file_that_says_the_same(tmp_path: Path) -> None:
    given = {
        "dir": '/a "quoted" \\ place',
        "media": ["/a", "/相框"],
        "trial_healthy_hours": "0.5",
        "mqtt": "mqtts://h:2",
    }
    effective = load(given, {})
    again = load({}, {}, written(tmp_path, effective.toml()))
    assert again.settings == effective.settings
    assert "argument: --trial-healthy-hours" in effective.toml()
    assert set(tomllib.loads(Effective(Settings(), effective.origins).toml())) >= {"port", "runtime", "outbox_mb"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "has 'prot', which is no setting: did you mean port?"),
        ("[something]\nelse = 1", "has 'something', which is no setting: device-agent config lists"),
        ('runtime = "gpu"', "is 'gpu': it must be auto, onnx or rknn."),
        ('port = "8300"', "it must be a whole number from 0 to 65535."),
        ("port = true", "it must be a whole number"),
        ("trial_healthy_hours = nan", "it must be a number from 0 to 720."),
        ('media = "/a"', "it must be a list of folders' paths."),
        ('mqtt = "mqtts://user:secret@h"', "it must be mqtts://host:port"),
        ("port = ", "are not TOML"),
        ("[" * 40_000, "are not TOML"),
        ("#" * 70_000, "have more than 64 KiB"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load({}, {}, file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(file))


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ({"port": "65536"}, {}, "--port is 65536: it must be"),
        ({"sink": "screen"}, {}, "--sink is 'screen': it must be mp4, raw or none."),
        ({}, {"FRAMEFLEET_AGENT_PORT": "x"}, "FRAMEFLEET_AGENT_PORT in the environment is 'x': it must be"),
        ({}, {"FRAMEFLEET_AGENT_PRT": "1"}, "did you mean FRAMEFLEET_AGENT_PORT?"),
        ({}, {"FRAMEFLEET_AGENT_MQTT": "mqtts://h"}, "did you mean MQTT_URL?"),
        ({}, {"MQTT_URL": "http://h"}, "MQTT_URL in the environment is 'http://h'"),
        ({}, {"FRAMEFLEET_AGENT_CONFIG": "/no/such/file"}, "The settings /no/such/file do not exist"),
    ],
)
def test_wrong_arguments_and_variables_name_themselves(
    arguments: dict[str, Any], environment: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(arguments, environment)
    assert said in str(caught.value)


def test_bytes_that_are_no_text_and_a_folder_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="are not TOML"):
        load({}, {}, file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load({}, {}, tmp_path)


def test_the_command_prints_what_is_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRAMEFLEET_AGENT_RUNTIME", "onnx")
    assert main(["config", "--config", str(written(tmp_path, "port = 8300"))]) == 0
    said = capsys.readouterr().out
    assert tomllib.loads(said)["port"] == 8300
    (line,) = (line for line in said.splitlines() if line.startswith("runtime"))
    assert line.endswith("# environment: FRAMEFLEET_AGENT_RUNTIME")
    assert main(["config", "--runtime", "gpu"]) == 1
    assert capsys.readouterr().err == "device-agent config: --runtime is 'gpu': it must be auto, onnx or rknn.\n"
