"""A deadline for a whole conversation over a blocking socket, whose own timeout is only that of one silence."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def within(seconds: float, connection: socket.socket) -> Iterator[None]:
    """What is said over ``connection`` inside is cut off after ``seconds``, however slowly it drips, also in the middle
    of a header. Raises TimeoutError then."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # below TLS, which its reader still uses

    watch = threading.Timer(seconds, cut)
    watch.daemon = True
    watch.start()
    try:
        yield
    except Exception:
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        watch.cancel()
    if late.is_set():
        raise TimeoutError
