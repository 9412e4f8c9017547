"""An HTTP server of artifacts with ranges, that can die in the middle."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Served:
    """``base`` is its address, ``sent`` the bytes of bodies."""

    def __init__(self, files: dict[str, bytes], die_after: int | None = None) -> None:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None: ...

        self.sent = 0
        self.requests = 0
        self._files = files
        self._die_after = die_after
        self._connections: list[socket.socket] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_port}/artifacts"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        if self.requests == self._die_after:
            self._server.socket.close()  # nobody gets in any more
            handler.connection.close()
            handler.close_connection = True
            return
        self.requests += 1
        data = self._files.get(handler.path.rpartition("/")[2])
        if data is None:
            handler.send_error(404)
            return
        first, _, last = handler.headers["Range"].removeprefix("bytes=").partition("-")
        body = data[int(first) : int(last) + 1]
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        self.sent += len(body)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        with suppress(OSError):
            self._server.server_close()


@contextmanager
def serving(files: dict[str, bytes], die_after: int | None = None) -> Iterator[Served]:
    """Serve ``files`` by name; after ``die_after`` requests the server is gone."""
    served = Served(files, die_after)
    try:
        yield served
    finally:
        served.close()
