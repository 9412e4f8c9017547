"""The birth endpoint's entry point: ``uvicorn config.birth:application --ssl-certfile ... --ssl-keyfile ...``.

A plain ASGI application: no sessions, no cookies, no templates, nothing but ``fleet.birth``. Bodies are bounded before
anybody looks at them, and so is how much goes on at once.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

from django.conf import settings  # noqa: E402  the applications are loaded now
from django.db import close_old_connections  # noqa: E402

from fleet.api.errors import AWAY, FAILED, is_database_away  # noqa: E402
from fleet.birth.endpoint import Endpoint, said  # noqa: E402
from ota.services.time import signed_time  # noqa: E402
from protocol.birth import MAX_BODY  # noqa: E402

log = logging.getLogger(__name__)

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

THREADS = 4
WAITING = 64
"""Requests that wait for a thread; further ones are told to come again."""
BODY_PATIENCE_S = 15.0

_endpoint = Endpoint(time=signed_time, mqtt=settings.FRAMEFLEET_MQTT_FOR_FRAMES or None)
_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="birth")
_busy = 0


async def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """One request."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    if scope["type"] != "http":
        return
    status, body = await _answer(scope, receive)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"cache-control", b"no-store")]
    if status >= 400:
        headers.append((b"connection", b"close"))  # the rest of a body may not have been read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _answer(scope: Mapping[str, Any], receive: Receive) -> tuple[int, bytes]:
    global _busy
    try:
        body = await asyncio.wait_for(_body(receive), BODY_PATIENCE_S)
    except TimeoutError:
        return 408, said("The request did not arrive in time: send it again.")
    if body is None:
        return 413, said(f"The body has more than {MAX_BODY} bytes: send less.")
    if _busy >= THREADS + WAITING:
        return 503, said("The server is busy: try again in a minute.")
    address = scope["client"][0] if scope.get("client") else ""
    _busy += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(
            _threads, _work, scope["method"], scope["path"], body, address
        )
    finally:
        _busy -= 1


async def _body(receive: Receive) -> bytes | None:
    """The whole body, None when it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _work(method: str, path: str, body: bytes, address: str) -> tuple[int, bytes]:
    close_old_connections()
    try:
        return _endpoint.answer(method, path, body, address)
    except Exception as error:
        if is_database_away(error):
            log.warning("The database does not answer (%s)", str(error).strip().partition("\n")[0])
            return 503, said(AWAY)
        log.exception("The birth endpoint failed on %s", path[:100])
        return 500, said(FAILED)
    finally:
        close_old_connections()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
