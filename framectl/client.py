"""The REST API, as commands need it: JSON in and out, bounded answers, one sentence for everything that goes wrong."""

import os
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from framectl.errors import CommandFailed
from framectl.package import Package

DEFAULT_SERVER = "http://127.0.0.1:8000"
MAX_ANSWER = 64 * 1024 * 1024
MAX_PAGES = 10_000
POLL_S = 0.5
UNREACHABLE_S = 60.0
"""How long a command that waits bears a server that does not answer."""
_TIMEOUT = httpx.Timeout(30.0, write=120.0)
_LONG_TIMEOUT = httpx.Timeout(300.0)


class NotReachable(CommandFailed):
    """The server did not answer, or not now; waiting commands bear this for a while."""


class NotFound(CommandFailed):
    """The server has no such thing."""


class Conflict(CommandFailed):
    """What was asked for no longer fits what the server has."""


class Client:
    """A context manager around one HTTP connection pool."""

    def __init__(self, server: str, token: str) -> None:
        if not server.startswith(("http://", "https://")):
            raise CommandFailed(f"{server!r} is no server address: write it as http://host:port.")
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise CommandFailed("This is no API token: give it as `manage.py create_api_token` has printed it.")
        self.server = server.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self.server}/api/v1/",
            headers={"Authorization": f"Token {token}", "Accept": "application/json"},
            timeout=_TIMEOUT,
            follow_redirects=False,
            trust_env=False,
        )

    @classmethod
    def from_arguments(cls, arguments: Namespace) -> Self:
        """``--server`` and ``--token``, or FRAMEFLEET_SERVER and FRAMEFLEET_TOKEN."""
        server = getattr(arguments, "server", None) or os.environ.get("FRAMEFLEET_SERVER") or DEFAULT_SERVER
        token = getattr(arguments, "token", None) or os.environ.get("FRAMEFLEET_TOKEN")
        if not token:
            raise CommandFailed("No API token: give --token or set FRAMEFLEET_TOKEN (`manage.py create_api_token`).")
        return cls(server, token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int | None) -> Any:
        """The JSON answer of a GET; empty query values are left out."""
        return self._json("GET", path, params={key: value for key, value in query.items() if value not in (None, "")})

    def post(self, path: str, body: object) -> Any:
        """The JSON answer of a POST."""
        return self._json("POST", path, json=body)

    def post_csv(self, path: str, data: bytes, **query: str | int | None) -> Any:
        """The JSON answer of a POST of CSV; much of it may take a while."""
        params = {key: value for key, value in query.items() if value is not None}
        return self._json(
            "POST", path, content=data, params=params, headers={"Content-Type": "text/csv"}, timeout=_LONG_TIMEOUT
        )

    def put(self, path: str, body: object) -> Any:
        """The JSON answer of a PUT."""
        return self._json("PUT", path, json=body)

    def delete(self, path: str, body: object = None) -> None:
        """A DELETE, whose answer says nothing."""
        self._read("DELETE", path, MAX_ANSWER, **({} if body is None else {"json": body}))

    def watch(self, path: str) -> Iterator[Any]:
        """The JSON answer of a GET, again and again; None while the server is silent, which is borne for a while."""
        silent_since: float | None = None
        while True:
            try:
                answer = self.get(path)
                silent_since = None
            except NotReachable:
                answer = None
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > UNREACHABLE_S:
                    raise
            yield answer
            time.sleep(POLL_S)

    def pages(self, path: str, at_most: int | None = None, **query: str | int | None) -> Iterator[dict[str, Any]]:
        """All results of a list, page by page, or the first ``at_most``."""
        cursor: str | None = None
        count = 0
        for _ in range(MAX_PAGES):
            page = self.get(path, cursor=cursor, **query)
            for row in page["results"]:
                if at_most is not None and count >= at_most:
                    return
                count += 1
                yield row
            cursor = page.get("next")
            if not cursor:
                return

    def bytes_of(self, sha256: str, limit: int) -> bytes:
        """A small artifact."""
        return self._read("GET", f"artifacts/{sha256}/", limit)

    def has_artifact(self, sha256: str) -> bool:
        """Whether the server has it already."""
        try:
            self._read("HEAD", f"artifacts/{sha256}/", MAX_ANSWER)
        except NotFound:
            return False
        return True

    def put_artifact(self, sha256: str, length: int, pieces: Iterator[bytes]) -> None:
        """Send an artifact. The length is said beforehand, so that no server has to take a chunked body."""
        headers = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
        self._read("PUT", f"artifacts/{sha256}/", MAX_ANSWER, headers=headers, content=pieces)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        data = self._read(method, path, MAX_ANSWER, **options)
        try:
            return msgspec.json.decode(data) if data else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise CommandFailed(
                f"{self.server} answered {path} with something else than JSON: is it framefleet?"
            ) from None

    def _read(self, method: str, path: str, limit: int, **options: Any) -> bytes:
        try:
            with self._http.stream(method, path, **options) as answer:
                data = bytearray()
                for piece in answer.iter_bytes():
                    data += piece
                    if len(data) > limit:
                        raise CommandFailed(f"The answer to {path} has more than {limit} bytes: ask for less.")
                if answer.is_success:
                    return bytes(data)
                raise _failure(answer.status_code, bytes(data), path)
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise NotReachable(
                f"{self.server} does not answer ({why}): start it, or give its address with --server."
            ) from None
        except httpx.HTTPError as error:
            raise CommandFailed(f"The request to {self.server} failed: {error}.") from None


def upload(client: Client, package: Package, sha256: str) -> bool:
    """Send one artifact of a package unless the server has it; returns whether it was sent."""
    if client.has_artifact(sha256):
        return False
    client.put_artifact(sha256, package.artifacts[sha256], package.read(sha256))
    return True


def _failure(status: int, data: bytes, path: str) -> CommandFailed:
    try:
        detail = str(msgspec.json.decode(data, type=dict[str, Any])["detail"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        detail = f"The server answered {path} with status {status}."
    if status in (401, 403):
        return CommandFailed(f"The server does not accept this token: {detail}")
    # 503: the server is there and its database is not; 502 and 504 say the same of a proxy's server.
    kinds: dict[int, type[CommandFailed]] = {
        404: NotFound,
        409: Conflict,
        **dict.fromkeys((502, 503, 504), NotReachable),
    }
    return kinds.get(status, CommandFailed)(detail)


def existing_file(text: str) -> Path:
    """An argparse type: a file that is there."""
    path = Path(text)
    if not path.is_file():
        raise CommandFailed(f"{text} is not a file.")
    return path
