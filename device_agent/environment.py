"""How processes find an agent's code: the image's as it is installed, another's in a file that is first on the path."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

IMAGE_PATH = "FRAMEFLEET_IMAGE_PYTHONPATH"
"""Variable in which the image's own PYTHONPATH survives while another agent runs."""


def command(arguments: list[str]) -> list[str]:
    """The command line that runs whichever agent is first on the path; the working directory is not on it."""
    return [sys.executable, "-P", "-m", "device_agent", *arguments]


def environment_for(agent: Path | None, base: Mapping[str, str]) -> dict[str, str]:
    """What a process needs to run ``agent`` (None: the image's), given the environment of this one."""
    changed = dict(base)
    path = changed.pop("PYTHONPATH", None)
    image = changed.pop(IMAGE_PATH, path)
    if agent is not None:
        changed[IMAGE_PATH] = image or ""
        changed["PYTHONPATH"] = os.pathsep.join(filter(None, (str(agent), image)))
    elif image:
        changed["PYTHONPATH"] = image
    return changed
