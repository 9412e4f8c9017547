"""Celery's messages through a folder: whole or not at all, each once."""

import threading
import time
import uuid
from pathlib import Path
from queue import Empty

import pytest
from kombu.connection import Connection

from config.celery import configuration

QUEUE = "celery"
LARGE = "x" * 200_000


def connection(var: Path) -> Connection:
    options = configuration(var, "filesystem://")["broker_transport_options"]
    return Connection("filesystem://", transport_options=options)  # type: ignore[no-untyped-call]


def test_a_message_that_cannot_be_read_stops_nobody(tmp_path: Path) -> None:
    name = uuid.uuid4().hex  # kombu remembers per process, not per folder, which names it has bound
    with connection(tmp_path) as one:
        queue = one.SimpleQueue(name)
        folder = tmp_path / "celery" / "messages"
        (folder / f"0_cut.{name}.msg").touch()
        (folder / f"0_half.{name}.msg").write_text('{"body": "')
        queue.put("whole")
        message = queue.get(timeout=2)
        assert message.payload == "whole"
        message.ack()
        with pytest.raises(Empty):
            queue.get(block=False)
        assert not list(folder.iterdir())


def test_a_reader_never_sees_half_a_message_and_nobody_sees_one_twice(tmp_path: Path) -> None:
    sent = 100
    got: list[int] = []
    failed: list[Exception] = []
    deadline = time.monotonic() + 20

    def read() -> None:
        with connection(tmp_path) as one:
            channel = one.default_channel
            while len(got) < sent and not failed and time.monotonic() < deadline:
                try:
                    got.append(channel._get(QUEUE)["number"])
                except Empty:
                    time.sleep(0.001)
                except Exception as error:
                    failed.append(error)

    readers = [threading.Thread(target=read, daemon=True) for _ in range(2)]
    for reader in readers:
        reader.start()
    with connection(tmp_path) as one:
        for number in range(sent):
            one.default_channel._put(QUEUE, {"number": number, "text": LARGE})
    for reader in readers:
        reader.join(25)
    assert not failed
    assert sorted(got) == list(range(sent))
