"""JSON that the agent keeps: a record of the right kind, or a ValueError that says what is wrong with it."""

from typing import TypeVar

import msgspec

T = TypeVar("T")


def read_record(data: bytes, kind: type[T]) -> T:
    """The record in ``data``. Raises ValueError, also for what is nested too deeply to be followed."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
