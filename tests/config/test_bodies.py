"""No body is taken in without bound, and a large one only from somebody who is known."""

import asyncio
import json

import pytest

from config import bodies
from config.bodies import Message, Receive, Scope, Send, bounded

PIECE = b"x" * 1024 * 1024


def ask(path: str, method: str, pieces: int, token: str = "") -> tuple[int, bytes, int]:
    """Status, answer and how many pieces were read of a body of so many pieces."""
    read = 0
    sent: list[Message] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"taken"})

    async def receive() -> Message:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": PIECE, "more_body": read < pieces}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"authorization", f"Token {token}".encode())] if token else [],
    }
    asyncio.run(bounded(app, lambda header: header == "Token known")(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], read


def test_small_bodies_pass_whoever_sends_them() -> None:
    assert ask("/api/v1/rollouts/", "POST", 4) == (200, b"taken", 4)


def test_a_large_body_is_not_read_to_its_end() -> None:
    status, answer, read = ask("/api/v1/rollouts/", "POST", 1000)
    assert (status, read) == (413, 5)
    assert "send less at once" in json.loads(answer)["detail"]


def test_a_large_upload_needs_a_token_that_is_known() -> None:
    path = f"/api/v1/artifacts/{'0' * 64}/"
    assert ask(path, "PUT", 50, "known") == (200, b"taken", 50)
    for token in ("", "guess"):
        status, answer, read = ask(path, "PUT", 50, token)
        assert (status, read) == (401, 5)
        assert "Send an API token" in json.loads(answer)["detail"]


def test_even_an_artifact_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_OBJECT", 10 * len(PIECE))
    status, answer, read = ask(f"/api/v1/artifacts/{'0' * 64}/", "PUT", 1000, "known")
    assert (status, read) == (413, 11)
    assert "split this one" in json.loads(answer)["detail"]
