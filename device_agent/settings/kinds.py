"""What a setting may be: each kind takes a TOML value, and turns the text of a variable or an argument into one."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from device_agent.settings.address import parse_url


class ConfigError(Exception):
    """The agent cannot start; the message is one sentence that says what to do."""


class Kind(Protocol):
    """One kind of value."""

    @property
    def allowed(self) -> str:
        """Ends the sentence "it must be ..."."""

    def take(self, value: object) -> Any:
        """The setting's value. Raises ValueError."""

    def read(self, text: Any) -> object:
        """What the file would hold for this text. Raises ValueError."""


class Text:
    """Kinds whose text is their value."""

    def read(self, text: Any) -> object:
        return text


class Choice(Text):
    """One of a few words."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self.allowed = f"{', '.join(options[:-1])} or {options[-1]}"

    def take(self, value: object) -> str:
        # A core is written 0 as naturally as "0".
        word = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if word not in self._options:
            raise ValueError
        return str(word)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number, both ends included."""

    low: int
    high: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def take(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise ValueError
        return value

    def read(self, text: Any) -> object:
        return int(text)


@dataclass(frozen=True, slots=True)
class Number:
    """A number, both ends included."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def take(self, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError
        if not self.low <= value <= self.high:
            raise ValueError
        return float(value)

    def read(self, text: Any) -> object:
        return float(text)


class Folder(Text):
    """A path; the working directory is where a relative one begins."""

    allowed = "a folder's path"

    def take(self, value: object) -> Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError
        return Path(value)


class Program(Folder):
    """A file that can be run."""

    allowed = "a program's path"


class Folders:
    """Paths: a list in the file, joined by ``:`` in the environment, a repeated argument."""

    allowed = "a list of folders' paths"

    def take(self, value: object) -> tuple[Path, ...]:
        if not isinstance(value, list):
            raise ValueError
        return tuple(Folder().take(part) for part in value)

    def read(self, text: Any) -> object:
        return text.split(os.pathsep) if isinstance(text, str) else list(text)


class Broker(Text):
    """A broker's address."""

    allowed = "mqtts://host:port, without a user name"

    def take(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError
        parse_url(value)
        return value
