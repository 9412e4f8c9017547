"""The household's page of the full agent: what a person in front of the frame can do."""

import asyncio
import json
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from standalone.processes import HOST, ServiceError, wait_until

START_S = 60.0
PLAYBACK_S = 180.0
LOOK_EVERY_S = 0.5


class HouseholdPage:
    """The page at 127.0.0.1:``port``."""

    def __init__(self, port: int) -> None:
        self._address = f"http://{HOST}:{port}"

    async def status(self) -> dict[str, Any]:
        """What the frame plays and what it is doing."""
        return await asyncio.to_thread(self._ask, "/status", None, 10.0)

    async def play(self, photo: Path, voice: Path, out: Path) -> dict[str, Any]:
        """Play a photo with a voice and keep the film; returns when it has been shown."""
        body = {"photo": str(photo), "voice": str(voice), "out": str(out)}
        return await asyncio.to_thread(self._ask, "/play", body, PLAYBACK_S)

    async def prove(self, photo: Path, voice: Path, out: Path, ended: asyncio.Future[Any]) -> int:
        """Play whenever a release is on probation, which ends after a few films, until ``ended``; how many films."""
        films = 0
        while not ended.done():
            with suppress(ServiceError):  # the agent may be starting again
                if (await self.status()).get("probation"):
                    await self.play(photo, voice, out)
                    films += 1
            await asyncio.wait([ended], timeout=LOOK_EVERY_S)
        return films

    async def wait_ready(self) -> None:
        """Until the page answers. Raises ServiceError."""

        def answers() -> bool:
            try:
                self._ask("/status", None, 2.0)
            except ServiceError:
                return False
            return True

        if not await asyncio.to_thread(wait_until, answers, START_S, interval=0.3):
            raise ServiceError(f"The agent's page at {self._address} does not answer: see its log.")

    def _ask(self, path: str, body: dict[str, str] | None, timeout: float) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310  our own address
            self._address + path, data=data, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            raise ServiceError(f"The agent answered {path}: {error.read(2000).decode(errors='replace')}") from None
        except (OSError, ValueError) as error:
            raise ServiceError(f"The agent's page does not answer {path} ({error}).") from None
