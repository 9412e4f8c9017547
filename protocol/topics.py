"""MQTT topics: one tree below ``frames/`` for each frame, one below ``repo/`` that all frames read.

``frames/{shard}/{frame_id}/desired``   down, retained: the frame's signed DesiredState
``frames/{shard}/{frame_id}/ack``       down: the backend's committed watermark
``frames/{shard}/{frame_id}/answer``    down: to a request
``frames/{shard}/{frame_id}/hello``     up: sent at every connection
``frames/{shard}/{frame_id}/reported``  up: ReportedState
``frames/{shard}/{frame_id}/events``    up: TelemetryBatch
``frames/{shard}/{frame_id}/request``   up: the time, or a certificate for a new key
``repo/head``                           retained: newest root and timestamp versions
``repo/meta/{role}/{version}``          retained: one TUF document
``repo/chunk/{sha256}``                 retained: at most 64 KiB that hash to the topic's own name

A topic level never holds a dot (NATS maps ``/`` to ``.``).
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal, get_args

Up = Literal["hello", "reported", "events", "request"]
Down = Literal["desired", "ack", "answer"]

UP: tuple[Up, ...] = get_args(Up)
DOWN: tuple[Down, ...] = get_args(Down)

REPO_HEAD = "repo/head"

_FRAME_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROLE = re.compile(r"[a-z][a-z-]{0,31}")


@dataclass(frozen=True, slots=True)
class FrameTopic:
    """An upward topic taken apart; the broker guarantees that only this frame's certificate can publish on it."""

    shard: str
    frame_id: str
    kind: Up


def is_frame_id(text: str) -> bool:
    """Whether ``text`` can name a frame: 1 to 40 of ``a-z 0-9 -``; it is also a DNS label in the certificate."""
    return _FRAME_ID.fullmatch(text) is not None


def shard_of(frame_id: str) -> str:
    """The frame's shard, one hex digit: what a bridge owns when there is more than one."""
    return hashlib.sha256(frame_id.encode()).hexdigest()[0]


def frame_topic(frame_id: str, kind: Up | Down) -> str:
    """The topic of one frame. Raises ValueError when ``frame_id`` cannot be a frame's name."""
    if not is_frame_id(frame_id):
        raise ValueError(f"{frame_id!r} is no frame id: use 1 to 40 of a-z, 0-9 and '-'")
    return f"frames/{shard_of(frame_id)}/{frame_id}/{kind}"


def up_filter(kind: Up) -> str:
    """The subscription filter for one kind of upward message of all frames."""
    return f"frames/+/+/{kind}"


def parse_up(topic: str) -> FrameTopic | None:
    """Take an upward topic apart, or None when it is not one (also when the shard is not the frame's own)."""
    match topic.split("/"):
        case ["frames", shard, frame_id, kind] if is_frame_id(frame_id) and shard == shard_of(frame_id):
            for known in UP:
                if kind == known:
                    return FrameTopic(shard, frame_id, known)
    return None


def chunk_topic(sha256: str) -> str:
    """The topic of the chunk whose SHA-256 (64 hex digits) this is."""
    if _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"{sha256!r} is no SHA-256 in hex")
    return f"repo/chunk/{sha256}"


def meta_topic(role: str, version: int) -> str:
    """The topic of one TUF document."""
    if _ROLE.fullmatch(role) is None or version < 1:
        raise ValueError(f"{role!r} version {version} is no TUF document")
    return f"repo/meta/{role}/{version}"
