"""Calls ``framectl`` as a person would, and reads the JSON it prints; and looks at the REST API, often and cheaply."""

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from asyncio.subprocess import PIPE
from contextlib import suppress
from typing import Any

from standalone.processes import ServiceError
from standalone.stack import ROOT

PATIENCE_S = 30.0


class Api:
    """Reads the REST API of one server."""

    def __init__(self, server: str, token: str) -> None:
        self._server, self._token = server, token

    async def get(self, path: str) -> Any:
        """What ``GET api/v1/PATH`` gives. Raises ServiceError with one sentence."""
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(  # noqa: S310  our own address
            f"{self._server}/api/v1/{path}", headers={"Authorization": f"Token {self._token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
                return json.loads(answer.read())
        except (OSError, ValueError) as error:
            raise ServiceError(f"The server does not answer {path} ({error}): see its log.") from None


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
        output = await self._run(*arguments, "--json", quiet=quiet)
        return json.loads(output) if output.strip() else None

    async def text(self, *arguments: str) -> str:
        """What ``framectl ARGUMENTS`` tells people. Raises ServiceError likewise."""
        return (await self._run(*arguments, quiet=True)).decode(errors="replace").rstrip()

    async def _run(self, *arguments: str, quiet: bool) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "framectl", *arguments),
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
        return output
