"""``outbox/state.json``: under which id the outbox numbers its events, and how far they are committed."""

import logging
from pathlib import Path

import msgspec

from device_agent.storage.files import read_file, replace_file
from device_agent.storage.records import read_record
from device_agent.telemetry import random_id
from protocol.messages import RandomId, Version

MAX_BYTES = 8 * 1024

log = logging.getLogger(__name__)


class OutboxState(msgspec.Struct, frozen=True):
    """``state.json``: everything up to ``committed`` is in the backend, numbers up to ``given`` were given away."""

    outbox_id: RandomId
    committed: Version = 0
    given: Version = 0


def load_state(path: Path) -> OutboxState:
    """What was saved last; a new outbox id where there is nothing, or it is damaged. Raises OSError."""
    try:
        return read_record(read_file(path, MAX_BYTES), OutboxState)
    except FileNotFoundError:
        pass
    except ValueError as error:
        log.error("The outbox's state cannot be read (%s): its events get a new outbox id.", error)
    state = OutboxState(random_id())
    save_state(path, state)
    return state


def save_state(path: Path, state: OutboxState) -> None:
    """Durably. Raises OSError."""
    replace_file(path, msgspec.json.encode(state))
