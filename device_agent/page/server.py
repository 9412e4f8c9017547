"""The household's page: what plays, what could, and the button for lips that do not match. On 127.0.0.1 only.

``GET /`` the page, ``GET /status`` JSON, ``POST /play`` ``{"photo", "voice", "out"?}`` and ``POST /complain``
``{"playback_id"}`` as JSON, or as the page's forms. Photos, voices and films are paths on this machine and only in the
folders the agent was given. Other web pages a browser has open cannot use it: requests must name this host, and come
from this page.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from device_agent.page.html import POLICY, household_page
from device_agent.page.media import media_in
from device_agent.player import Playback, Player, PlayRefused

log = logging.getLogger(__name__)

T = TypeVar("T")

HOST = "127.0.0.1"
MAX_BODY = 16 * 1024
FILMS = (".mp4", ".i420")
MAX_REQUESTS = 8
"""Requests answered at once; more wait, each on a thread of its own."""
MAX_CONNECTIONS = 32
"""Connections beyond these are closed: a frame has few threads to give."""
SOCKET_TIMEOUT_S = 15.0
TURN_S = 1.0
"""The thread that takes requests looks up this often."""
HANGS_S = 20.0
"""It hangs when it has not looked up for this long."""


class PlayRequest(msgspec.Struct, frozen=True):
    """Body of ``POST /play``."""

    photo: str
    voice: str
    out: str | None = None


class ComplainRequest(msgspec.Struct, frozen=True):
    """Body of ``POST /complain``."""

    playback_id: str


class NotAllowed(Exception):
    """The request is refused; the message is one sentence."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class LocalPage:
    """Serves until ``close``; ``port`` 0 takes a free one. ``status`` is called from any thread."""

    def __init__(
        self, player: Player, status: Callable[[], dict[str, Any]], folders: list[Path], port: int = 0
    ) -> None:
        page = self
        self._player = player
        self._status = status
        self._folders = [folder.resolve() for folder in folders]
        places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        slots = threading.BoundedSemaphore(MAX_REQUESTS)

        class Handler(BaseHTTPRequestHandler):
            timeout = SOCKET_TIMEOUT_S
            server_version = "framefleet"
            sys_version = ""

            def do_GET(self) -> None:
                page.answer(self, None)

            def do_POST(self) -> None:
                page.answer(self, self.read_body())

            def read_body(self) -> bytes:
                length = self.headers.get("Content-Length", "")
                if not length.isdecimal() or int(length) > MAX_BODY:
                    self.close_connection = True
                    return b""
                return self.rfile.read(int(length))

            def log_message(self, format: str, *args: Any) -> None:
                log.debug(format, *args)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def service_actions(self) -> None:
                page._turned_at = time.monotonic()

            def process_request(self, request: Any, client_address: Any) -> None:
                if not places.acquire(blocking=False):
                    self.shutdown_request(request)
                    return
                try:
                    super().process_request(request, client_address)
                except BaseException:  # no thread could be started
                    places.release()
                    raise

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                try:
                    with slots:
                        super().process_request_thread(request, client_address)
                finally:
                    places.release()

        self._turned_at = time.monotonic()
        self._server = Server((HOST, port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(TURN_S,), name="local page", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it answers."""
        return int(self._server.server_address[1])

    def alive(self) -> bool:
        """Whether the thread that takes requests still goes round."""
        return time.monotonic() - self._turned_at < HANGS_S

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- requests -----------------------------------------------------------------------------------------------------

    def answer(self, request: BaseHTTPRequestHandler, body: bytes | None) -> None:
        """One request; ``body`` is None for GET."""
        try:
            self._require_own(request)
            match (request.path, body):
                case ("/", None):
                    self._send_page(request, HTTPStatus.OK)
                case ("/status", None):
                    _send_json(request, HTTPStatus.OK, self._status())
                case ("/play", bytes()):
                    self._act(request, body, PlayRequest, self._play)
                case ("/complain", bytes()):
                    self._act(request, body, ComplainRequest, lambda asked: self._player.complain(asked.playback_id))
                case _:
                    raise NotAllowed(HTTPStatus.NOT_FOUND, "There is no such page.")
        except NotAllowed as error:
            self._refuse(request, error.status, str(error))
        except PlayRefused as error:
            self._refuse(request, HTTPStatus.CONFLICT if error.busy else HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except OSError as error:
            log.info("A request broke off: %s", error)

    def _require_own(self, request: BaseHTTPRequestHandler) -> None:
        hosts = {f"{name}:{self.port}" for name in (HOST, "localhost")}
        origin = request.headers.get("Origin")
        if request.headers.get("Host") not in hosts or (origin and origin not in {f"http://{host}" for host in hosts}):
            raise NotAllowed(HTTPStatus.FORBIDDEN, "Only this frame's own page may ask.")

    def _play(self, asked: PlayRequest) -> Playback:
        photo, voice = (self._allowed(path) for path in (asked.photo, asked.voice))
        for path in (photo, voice):
            if not path.is_file():
                raise NotAllowed(HTTPStatus.UNPROCESSABLE_ENTITY, f"There is no file {path.name}.")
        out = None if asked.out is None else self._allowed(asked.out)
        if out is not None and out.suffix not in FILMS:
            # Or a film could take the place of somebody's photo.
            raise NotAllowed(HTTPStatus.UNPROCESSABLE_ENTITY, f"A film's file must end in {' or '.join(FILMS)}.")
        return self._player.play(photo, voice, out)

    def _allowed(self, text: str) -> Path:
        path = Path(text)
        try:
            resolved = path.resolve()
        except (OSError, ValueError):
            resolved = Path("/")
        if not path.is_absolute() or not any(resolved.is_relative_to(folder) for folder in self._folders):
            raise NotAllowed(
                HTTPStatus.FORBIDDEN,
                "Use a full path in a folder this frame was given for photos and voices.",
            )
        return resolved

    def _act(self, request: BaseHTTPRequestHandler, body: bytes, kind: type[T], do: Callable[[T], Playback]) -> None:
        """Programs get the film as JSON; people who sent the page's form get the page again."""
        if not _is_form(request):
            _send_json(request, HTTPStatus.OK, msgspec.to_builtins(do(_decode(body, kind))))
            return
        try:
            fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=4)
        except ValueError as error:
            raise NotAllowed(HTTPStatus.BAD_REQUEST, "This form has more fields than the page's.") from error
        do(_decode(msgspec.json.encode({name: values[0] for name, values in fields.items()}), kind))
        request.send_response(HTTPStatus.SEE_OTHER)
        request.send_header("Location", "/")
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _refuse(self, request: BaseHTTPRequestHandler, status: HTTPStatus, sentence: str) -> None:
        if request.command == "POST" and _is_form(request) and status is not HTTPStatus.FORBIDDEN:
            self._send_page(request, status, sentence)
        else:
            _send_json(request, status, {"detail": sentence})

    def _send_page(self, request: BaseHTTPRequestHandler, status: HTTPStatus, notice: str | None = None) -> None:
        page = household_page(self._status(), self._player.recent, media_in(self._folders), notice)
        _send(request, status, page.encode("utf-8", "replace"), "text/html; charset=utf-8")


def _is_form(request: BaseHTTPRequestHandler) -> bool:
    return request.headers.get_content_type() == "application/x-www-form-urlencoded"


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotAllowed(HTTPStatus.BAD_REQUEST, f"Not a valid {kind.__name__}: {error}.") from error


def _send_json(request: BaseHTTPRequestHandler, status: HTTPStatus, content: Any) -> None:
    _send(request, status, json.dumps(content, ensure_ascii=False).encode(), "application/json")


def _send(request: BaseHTTPRequestHandler, status: HTTPStatus, content: bytes, kind: str) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(content)))
    request.send_header("Cache-Control", "no-store")
    request.send_header("X-Content-Type-Options", "nosniff")
    request.send_header("X-Frame-Options", "DENY")
    request.send_header("Content-Security-Policy", POLICY)
    request.end_headers()
    request.wfile.write(content)
