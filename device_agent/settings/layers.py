"""The agent's settings: defaults, then a file, then the environment, then arguments; the later one wins.

Each is declared once, in ``Settings``. The key ``sink`` of the file is FRAMEFLEET_AGENT_SINK in the environment and
``--sink`` on the command line. None of them is a secret: a frame's key lies in its folder.
"""

import argparse
import difflib
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from device_agent.settings.kinds import Broker, Choice, ConfigError, Folder, Folders, Kind, Number, Program, Whole

DEFAULT_FILE = Path("/etc/framefleet/agent.toml")
"""Read when it is there; a file that was named must be there."""
PREFIX = "FRAMEFLEET_AGENT_"
FILE_VARIABLE = f"{PREFIX}CONFIG"
VARIABLES = {"mqtt": "MQTT_URL"}
"""Environment names that do not follow from the key."""
MAX_FILE = 64 * 1024
"""Bytes of the file that are read at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Sizes in MB are 10^6 bytes."""

    dir: Annotated[Path | None, Folder(), "the agent's folder"] = None
    mqtt: Annotated[str | None, Broker(), "the broker, mqtts://host:port"] = None
    media: Annotated[tuple[Path, ...], Folders(), "a folder with photos and voices, beside the agent's own"] = ()
    port: Annotated[int, Whole(0, 65_535), "port of the local page; 0 takes a free one"] = 0
    log_level: Annotated[str, Choice("DEBUG", "INFO", "WARNING", "ERROR"), "what is logged"] = "INFO"
    runtime: Annotated[
        Literal["auto", "onnx", "rknn"],
        Choice("auto", "onnx", "rknn"),
        "what runs the model: auto takes the NPU where there is one",
    ] = "auto"
    npu_core_mask: Annotated[str, Choice("auto", "0", "1", "2", "0_1", "0_1_2"), "the NPU's cores to use"] = "auto"
    sink: Annotated[
        Literal["mp4", "raw", "none"], Choice("mp4", "raw", "none"), "where films go: mp4 files, raw frames, or nowhere"
    ] = "mp4"
    trial_playbacks: Annotated[int, Whole(1, 1_000), "playbacks without a crash that commit a release"] = 3
    trial_healthy_hours: Annotated[float, Number(0.0, 720.0), "healthy hours that commit a release as well"] = 24.0
    playback_timeout_s: Annotated[float, Number(1.0, 3_600.0), "seconds one film may take to render"] = 300.0
    renderer_beat_s: Annotated[float, Number(1.0, 300.0), "seconds of silence after which the renderer hangs"] = 15.0
    renderer_idle_s: Annotated[float, Number(0.0, 86_400.0), "seconds the renderer stays warm after a film"] = 120.0
    renderer_memory_mb: Annotated[int, Whole(200, 16_384), "memory the renderer may take"] = 800
    outbox_mb: Annotated[int, Whole(1, 1_024), "disk that events may take until the backend has them"] = 16
    outbox_events: Annotated[int, Whole(1_000, 10_000_000), "events kept until the backend has them"] = 100_000
    disk_reserve_mb: Annotated[int, Whole(1, 1_000_000), "disk that downloads leave free"] = 64
    epoch_helper: Annotated[
        Path | None, Program(), "the board's program that keeps the security epoch (get, raise N); without one, a file"
    ] = None

    @property
    def core_mask(self) -> int:
        """``npu_core_mask`` as RKNNLite's bits: one for each core, 0 lets it choose."""
        return 0 if self.npu_core_mask == "auto" else sum(1 << int(core) for core in self.npu_core_mask.split("_"))


def _declared() -> dict[str, tuple[Kind, str]]:
    hints = get_type_hints(Settings, include_extras=True)
    return {part.name: hints[part.name].__metadata__ for part in fields(Settings)}


_DECLARED = _declared()
"""Each setting's kind, and what it is."""


def variable(name: str) -> str:
    """The environment's name for a setting."""
    return VARIABLES.get(name, PREFIX + name.upper())


def flag(name: str) -> str:
    """The command line's name for a setting."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Effective:
    """The settings in force, and for each where its value came from."""

    settings: Settings
    origins: Mapping[str, str]

    def toml(self) -> str:
        """As a settings file that says the same, with each origin beside it."""
        lines = []
        for name in _DECLARED:
            value = getattr(self.settings, name)
            line = f"# {name} is not set" if value is None else f"{name} = {_toml(value)}"
            lines.append((line, self.origins[name]))
        width = max(len(line) for line, _ in lines)
        return "".join(f"{line.ljust(width)}  # {origin}\n" for line, origin in lines)


def add_arguments(parser: argparse.ArgumentParser, only: Iterable[str] | None = None) -> None:
    """``--config`` and a flag for each setting (``only`` some)."""
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"settings (default: {DEFAULT_FILE}, if there)")
    for name in only if only is not None else _DECLARED:
        kind, what = _DECLARED[name]
        several = isinstance(kind, Folders)
        parser.add_argument(
            flag(name),
            dest=name,
            metavar="FOLDER" if several else "VALUE",
            action="append" if several else "store",
            help=(f"{what}; may be given again" if several else what).replace("%", "%%"),
        )


def from_arguments(arguments: argparse.Namespace) -> Effective:
    """The settings of a command whose parser got ``add_arguments``. Raises ConfigError."""
    given = {name: getattr(arguments, name, None) for name in _DECLARED}
    return load({name: value for name, value in given.items() if value is not None}, os.environ, arguments.config)


def load(arguments: Mapping[str, Any], environment: Mapping[str, str], file: Path | None = None) -> Effective:
    """Put the layers together. ``arguments`` holds texts by key; ``file`` None means FRAMEFLEET_AGENT_CONFIG or the
    default one. Raises ConfigError with one sentence that names the key, its origin and what is allowed."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys(_DECLARED, "default")
    path, content = _read_file(file, environment)
    named = {variable(name): name for name in _DECLARED}
    for key in content:
        if key not in _DECLARED:
            raise _unknown(key, key, str(path), str)
    for spoken in environment:
        if spoken.startswith(PREFIX) and spoken not in named and spoken != FILE_VARIABLE:
            raise _unknown(spoken, spoken.removeprefix(PREFIX).lower(), "The environment", variable)
    for name, value in content.items():
        values[name] = _taken(name, value, f"{name} in {path}")
        origins[name] = str(path)
    for spoken, name in named.items():
        if text := environment.get(spoken):
            values[name] = _read(name, text, f"{spoken} in the environment")
            origins[name] = f"environment: {spoken}"
    for name, text in arguments.items():
        values[name] = _read(name, text, flag(name))
        origins[name] = f"argument: {flag(name)}"
    return Effective(Settings(**values), origins)


def _read_file(named: Path | None, environment: Mapping[str, str]) -> tuple[Path, dict[str, Any]]:
    chosen = named or environment.get(FILE_VARIABLE)
    path = Path(chosen) if chosen else DEFAULT_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ConfigError(f"The settings {path} have more than {MAX_FILE // 1024} KiB: keep settings only.")
        return path, tomllib.loads(data.decode())
    except FileNotFoundError as error:
        if not chosen:
            return path, {}
        raise ConfigError(f"The settings {path} do not exist: name a file that does, or none.") from error
    except OSError as error:
        raise ConfigError(f"The settings {path} cannot be read ({error.strerror}): make them readable.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).rstrip(".")
        raise ConfigError(f"The settings {path} are not TOML ({reason}): write lines like port = 8300.") from error


def _unknown(spoken: str, key: str, where: str, speak: Callable[[str], str]) -> ConfigError:
    near = difflib.get_close_matches(key, _DECLARED, n=1)
    hint = f"did you mean {speak(near[0])}?" if near else "device-agent config lists those that exist."
    return ConfigError(f"{where} has {_shown(spoken)}, which is no setting: {hint}")


def _taken(name: str, value: object, where: str) -> Any:
    kind, _ = _DECLARED[name]
    try:
        return kind.take(value)
    except ValueError:
        raise ConfigError(f"{where} is {_shown(value)}: it must be {kind.allowed}.") from None


def _read(name: str, text: Any, where: str) -> Any:
    try:
        value = _DECLARED[name][0].read(text)
    except ValueError:
        value = text
    return _taken(name, value, where)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(part) for part in value)}]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
