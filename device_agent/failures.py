"""What went wrong with an installation, in one sentence, and whether it may be gone later."""

import errno
import logging

from device_agent.telemetry import sentence
from protocol.errors import Reason, Refused
from protocol.messages import Failure

log = logging.getLogger(__name__)

PASSING: frozenset[Reason] = frozenset(
    {
        Reason.NOT_AVAILABLE,
        Reason.TAMPERED_CHUNK,
        Reason.DISK_FULL,
        Reason.EXPIRED,
        Reason.NO_TIME,
        Reason.INTERNAL,
    }
)
"""Reasons that may be gone later without a new DesiredState."""


def failure_of(error: BaseException) -> Failure:
    """What a report says about ``error``: its own sentence for a refusal, a plain one for anything unexpected."""
    match error:
        case Refused():
            return Failure(reason=error.reason, detail=sentence(error.detail))
        case OSError() if is_full(error):
            return Failure(reason=Reason.DISK_FULL, detail="The frame's disk is full: free space on it.")
        case OSError():
            told = f"The frame's disk failed: {error}. Check its storage."
        case MemoryError():
            told = "The frame ran out of memory while installing: see what else takes it, or make the model smaller."
        case _:
            log.error("Unexpected error while installing", exc_info=error)
            told = f"Unexpected {type(error).__name__} while installing; the agent's log says more."
    return Failure(reason=Reason.INTERNAL, detail=sentence(told))


def is_full(error: OSError) -> bool:
    """Whether a file could not be written for want of room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
