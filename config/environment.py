"""Reading the environment: every variable is checked, and what is missing or odd is said in one sentence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from protocol.clock import PeopleClock

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}


def required(environ: Mapping[str, str], name: str, example: str) -> str:
    """The variable's value. Raises ImproperlyConfigured when it is missing or empty."""
    value = environ.get(name, "").strip()
    if not value:
        raise ImproperlyConfigured(f"Set the environment variable {name}, for example {name}={example}.")
    return value


def flag(environ: Mapping[str, str], name: str) -> bool:
    """A switch that is off by default."""
    value = environ.get(name, "").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is neither on nor off: use 1 or 0.")


def names(environ: Mapping[str, str], name: str, default: str) -> list[str]:
    """A comma-separated list with at least one entry."""
    found = [part.strip() for part in environ.get(name, default).split(",") if part.strip()]
    if not found:
        raise ImproperlyConfigured(f"{name} is empty: name at least one host, for example {name}={default}.")
    return found


def folder(environ: Mapping[str, str], name: str, default: Path) -> Path:
    """An absolute folder; made (mode 0700) when it does not exist, because keys lie below it."""
    path = Path(environ.get(name, "").strip() or default).expanduser().absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"{name}={path} cannot be used as a folder: {error.strerror}.") from None
    return path


def database(url: str) -> dict[str, Any]:
    """Django's description of ``postgresql://user:password@host:port/name?option=value``."""
    wrong = "DATABASE_URL is not of the form postgresql://user:password@host:port/name"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ImproperlyConfigured(f"{wrong}: {error}.") from None
    name = unquote(parts.path.lstrip("/"))
    if parts.scheme not in {"postgresql", "postgres"} or not parts.hostname or not name or "/" in name:
        raise ImproperlyConfigured(f"{wrong}.")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname),
        "PORT": str(port or 5432),
        "OPTIONS": dict(parse_qsl(parts.query)),
    }


def web_address(environ: Mapping[str, str], name: str) -> str:
    """``https://host/path`` (or http) without a slash at its end, or empty."""
    url = environ.get(name, "").strip().rstrip("/")
    if not url:
        return ""
    wrong = f"{name}={url!r} is not of the form https://host/path"
    try:
        parts = urlsplit(url)
        complete = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port)
    except ValueError as error:
        raise ImproperlyConfigured(f"{wrong}: {error}.") from None
    if not complete or parts.query or parts.fragment or parts.username is not None:
        raise ImproperlyConfigured(f"{wrong}.")
    return url


def https_url(environ: Mapping[str, str], name: str) -> str:
    """``https://host:port`` without a slash at its end, or empty."""
    url = environ.get(name, "").strip().rstrip("/")
    try:
        parts = urlsplit(url)
        complete = not url or (parts.scheme == "https" and parts.hostname and (parts.port or True))
    except ValueError:
        complete = False
    if not complete:
        raise ImproperlyConfigured(f"{name}={url!r} is not of the form https://host:port.")
    return url


def mqtt_url(environ: Mapping[str, str], name: str = "MQTT_URL") -> str:
    """``mqtts://host:port``, or empty: only the bridge needs it and asks for it then."""
    url = environ.get(name, "").strip()
    if not url:
        return ""
    wrong = f"{name}={url!r} is not of the form mqtts://host:port"
    try:
        parts = urlsplit(url)
        complete = parts.scheme == "mqtts" and parts.hostname and parts.port
    except ValueError as error:
        raise ImproperlyConfigured(f"{wrong}: {error}.") from None
    if not complete or parts.path.strip("/"):
        raise ImproperlyConfigured(f"{wrong}.")
    return url


def number(environ: Mapping[str, str], name: str, most: int) -> int:
    """A whole number from 0, which is the default, to ``most``."""
    text = environ.get(name, "").strip() or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= most):
        raise ImproperlyConfigured(f"{name}={text[:20]!r} is no number from 0 to {most}.")
    return int(text)


def seconds(environ: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    """A time in seconds from ``least`` to ``most``."""
    text = environ.get(name, "").strip() or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= most:
        raise ImproperlyConfigured(f"{name}={text[:20]!r} is no number of seconds from {least:g} to {most:g}.")
    return value


def people_clock(environ: Mapping[str, str], name: str) -> PeopleClock | None:
    """The clock simulated people live by; real time without it."""
    text = environ.get(name, "").strip()
    try:
        return PeopleClock.parse(text) if text else None
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={text[:60]!r} {error}.") from None


def chosen(environ: Mapping[str, str], name: str, known: Sequence[str]) -> frozenset[str]:
    """Some of the ``known`` words, separated by commas: none by default, every one of them for ``all``."""
    words = {part.strip().lower() for part in environ.get(name, "").split(",") if part.strip()}
    if words == {"all"}:
        return frozenset(known)
    if odd := words - set(known):
        raise ImproperlyConfigured(f"{name} names {', '.join(sorted(odd))}: use some of {', '.join(known)}, or all.")
    return frozenset(words)
