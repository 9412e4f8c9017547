"""Calls ``framectl`` as a person would, and reads the JSON it prints."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from typing import Any

from standalone.processes import ServiceError
from standalone.stack import ROOT


class Framectl:
    """One server and one token. Progress goes to our terminal; the result is framectl's JSON."""

    def __init__(self, server: str, token: str) -> None:
        self._env = {
            **os.environ,
            "FRAMEFLEET_SERVER": server,
            "FRAMEFLEET_TOKEN": token,
            "PYTHONPATH": str(ROOT),
        }

    async def __call__(self, *arguments: str, quiet: bool = False) -> Any:
        """Run ``framectl ARGUMENTS --json``. Raises ServiceError with framectl's own sentence when it fails."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "framectl", *arguments, "--json"),
            env=self._env,
            cwd=ROOT,
            stdout=PIPE,
            stderr=PIPE if quiet else None,
        )
        try:
            output, errors = await process.communicate()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        if process.returncode != 0:
            why = (errors or b"").decode(errors="replace").strip() or "see the line above"
            raise ServiceError(f"framectl {' '.join(arguments)}: {why}")
        return json.loads(output) if output.strip() else None
