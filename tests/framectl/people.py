"""Several people with a key each, and a folder that they carry from one machine to the next."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from framectl.__main__ import main


@dataclass(frozen=True)
class People:
    """``home/<name>.pem`` and ``.pub`` are each person's; ``folder`` is the offline folder that goes round."""

    home: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def folder(self) -> str:
        return str(self.home / "folder")

    def new(self, *names: str) -> None:
        for name in names:
            assert main(["keys", "new", "--out", str(self.home / f"{name}.pem")]) == 0

    def public(self, name: str) -> str:
        return str(self.home / f"{name}.pub")

    def key(self, name: str) -> str:
        return f"file:{self.home / name}.pem"

    def does(self, *arguments: str) -> Any:
        """The JSON that a command prints."""
        self.capsys.readouterr()
        status = main([*arguments, "--json"])
        text = self.capsys.readouterr()
        assert status == 0, text.err
        return json.loads(text.out)

    def refused(self, *arguments: str) -> str:
        """The one sentence with which a command refuses."""
        self.capsys.readouterr()
        assert main(list(arguments)) == 1
        text = self.capsys.readouterr()
        assert not text.out
        return text.err.splitlines()[-1]

    def sign(self, *names: str) -> Any:
        """Each signs the folder in turn; what the last one was told."""
        for name in names:
            said = self.does("keys", "sign", self.folder, "--key", self.key(name))
        return said

    def ceremony(self, online: Path, *more: str) -> Any:
        """Root 2 of alice, bob, carol; targets (and the roles below) 2 of dora, emil, fred."""
        roots = [f"--root-key={self.public(name)}" for name in ("alice", "bob", "carol")]
        targets = [f"--targets-key={self.public(name)}" for name in ("dora", "emil", "fred")]
        thresholds = ("--root-threshold=2", "--targets-threshold=2", f"--online={online}")
        return self.does("keys", "ceremony", "--out", self.folder, *roots, *targets, *thresholds, *more)


EVERYBODY = ("alice", "bob", "carol", "dora", "emil", "fred")
