"""Films of the full agent: the same photo and voice before and after a fix, and both beside each other."""

import sys
from dataclasses import dataclass
from pathlib import Path

from standalone.household import HouseholdPage
from standalone.stack import ROOT
from standalone.supervisor import Supervisor


@dataclass(frozen=True)
class Films:
    """Films below ``folder``; each method returns what the film is called and how it went."""

    page: HouseholdPage
    supervisor: Supervisor
    folder: Path
    photo: Path
    voice: Path

    async def play(self, name: str) -> str:
        """The household plays, and keeps the film."""
        played = await self.page.play(self.photo, self.voice, self.folder / name)
        figures = ", ".join(f"{key} {played[key]:.0f}" for key in ("first_frame_ms", "fps") if key in played)
        return f"{self.shown(name)}: {figures}"

    async def compare(self, name: str, left: tuple[str, str], right: tuple[str, str]) -> str:
        """Two films, each (name, label), beside each other."""
        sides = ("--left", str(self.folder / left[0]), "--right", str(self.folder / right[0]))
        labels = ("--left-label", left[1], "--right-label", right[1])
        argv = [sys.executable, "-m", "device_agent", "compare", *sides, *labels, "--out", str(self.folder / name)]
        await self.supervisor.run_once("compare", argv, cwd=ROOT)
        return self.shown(name)

    def shown(self, name: str) -> str:
        """A film's path as people are told it."""
        path = self.folder / name
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
