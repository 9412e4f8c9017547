"""How much of a request's body the server takes in before anybody has looked at it.

An asynchronous Django keeps the whole body in a temporary file before the first view runs, whoever sends it. So a body
beyond SMALL is taken only where artifacts are uploaded, and only with an API token that may do more than read.
"""

import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from asgiref.sync import sync_to_async

from fleet.api.claims import MAX_CSV
from fleet.permissions import Action, may
from fleet.services.tokens import find_token
from protocol.limits import MAX_OBJECT

SMALL = 4 * 1024 * 1024
UPLOADS = "/api/v1/artifacts/"
IMPORTS = "/api/v1/claims/"

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


class _Refused(Exception):
    """The rest of the body is not read."""

    def __init__(self, status: int, sentence: str) -> None:
        self.status = status
        self.sentence = sentence


def bounded(app: App, may_upload: Callable[[str], bool] | None = None) -> App:
    """``app`` with bounded bodies; ``may_upload`` tells whether an Authorization header belongs to somebody known."""
    known = sync_to_async(may_upload or _knows_token)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        taken, limit = 0, SMALL

        async def counted() -> Message:
            nonlocal taken, limit
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                limit = await _larger(scope, taken, known)
            return message

        try:
            await app(scope, counted, send)
        except _Refused as refused:  # the application reads the body before it answers anything
            await _answer(send, refused)

    return wrapped


async def _larger(scope: Scope, taken: int, known: Callable[[str], Awaitable[bool]]) -> int:
    """The limit for a body of more than SMALL bytes. Raises _Refused."""
    if scope["method"] == "POST" and scope["path"] == IMPORTS:
        limit, what = MAX_CSV, "A list of frames"
    elif scope["method"] == "PUT" and scope["path"].startswith(UPLOADS):
        limit, what = MAX_OBJECT, "An artifact"
    else:
        raise _Refused(413, f"The body has more than {SMALL} bytes: send less at once.")
    if taken > limit:
        raise _Refused(413, f"{what} has at most {limit} bytes: split this one.")
    if not await known(_authorization(scope)):
        raise _Refused(401, "Send an API token that may do more than read: Authorization: Token <token>.")
    return limit


def _authorization(scope: Scope) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"), "")


def _knows_token(authorization: str) -> bool:
    kind, _, token = authorization.partition(" ")
    found = find_token(token.strip()) if kind.lower() == "token" else None
    return found is not None and may(found.user, Action.ENROL_FRAMES, found)


async def _answer(send: Send, refused: _Refused) -> None:
    body = json.dumps({"detail": refused.sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
