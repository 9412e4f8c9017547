"""The broker's address."""

from urllib.parse import urlsplit


def parse_url(url: str) -> tuple[str, int]:
    """Host and port of ``mqtts://host:port``; the port may be left out. Raises ValueError with one sentence.

    Frames prove who they are by certificate, so a user name or password in it is refused.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 8883
        if parts.scheme != "mqtts" or not parts.hostname or "@" in parts.netloc:
            raise ValueError
    except ValueError:
        raise ValueError(f"{url!r} is no broker's address: use mqtts://host:port.") from None
    return parts.hostname, port
