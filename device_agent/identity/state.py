"""What ``device-agent status`` says about certificate and clock."""

import datetime as dt
from pathlib import Path
from typing import Any

from device_agent.clock import SecurityClock
from device_agent.identity.certificates import serial_of
from device_agent.identity.pairs import Pairs
from device_agent.identity.renewal import due
from device_agent.settings.kinds import ConfigError


def identity_state(pairs: Pairs, clock: SecurityClock) -> dict[str, Any]:
    """Of a running agent."""
    now = clock.now()
    told = {"source": clock.source, "now": None if now is None else _text(now)}
    try:
        return {"clock": told, "certificate": _certificate(pairs, now)}
    except ConfigError:  # it is being exchanged right now, or the disk is damaged
        return {"clock": told, "certificate": None}


def stored_state(folder: Path) -> dict[str, Any]:
    """Of one that does not run: ``folder`` is ``identity/``."""
    try:
        return {"certificate": _certificate(Pairs(folder), dt.datetime.now(dt.UTC))}
    except ConfigError:
        return {"certificate": None}


def _certificate(pairs: Pairs, now: dt.datetime | None) -> dict[str, Any]:
    certificate = pairs.certificate()
    return {
        "serial": serial_of(certificate),
        "until": _text(certificate.not_valid_after_utc),
        "renewed_from": _text(due(certificate)),
        "lapsed": now is not None and now >= certificate.not_valid_after_utc,
    }


def _text(time: dt.datetime) -> str:
    return time.astimezone(dt.UTC).isoformat(timespec="seconds")
