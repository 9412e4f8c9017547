"""``artifacts/{sha256}/``: bytes by their hash."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest
from fleet.permissions import Action
from ota import storage
from ota.models import Artifact
from ota.services.artifacts import store

_SHA256 = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes=(\d{0,16})-(\d{0,16})")


class ArtifactBytes(APIView):
    """``PUT``, ``GET`` (with one HTTP Range) and ``HEAD``."""

    actions: ClassVar = {"PUT": Action.PUSH_RELEASE}

    parser_classes = ()  # the body is the file, whatever it calls itself

    def put(self, request: Request, sha256: str) -> Response:
        """Keep the body: 201, or 200 when it was there already."""
        _check(sha256)
        artifact, created = store(sha256, _body(request))
        answer = {"sha256": artifact.sha256, "length": artifact.length, "index": artifact.index_root or None}
        return Response(answer, status=status.HTTP_201_CREATED if created else status.HTTP_200_OK)

    def get(self, request: Request, sha256: str) -> HttpResponseBase:
        """The bytes, or a part of them."""
        _check(sha256)
        artifact = Artifact.objects.filter(pk=sha256).first()
        if artifact is None or not storage.has(sha256, artifact.length):
            raise NotFound(f"There is no artifact {sha256[:12]}: upload it first.")
        part = byte_range(request.headers.get("Range", ""), artifact.length)
        if part is None:
            return Response(
                {"detail": f"The artifact has {artifact.length} bytes: ask for a range within them."},
                status=status.HTTP_416_REQUESTED_RANGE_NOT_SATISFIABLE,
                headers={"Content-Range": f"bytes */{artifact.length}"},
            )
        start, end = part
        whole = (start, end) == (0, artifact.length)
        # HEAD says everything but reads nothing.
        content = iter(()) if request.method == "HEAD" else storage.pieces(sha256, start, end - start)
        # An asynchronous server would first read a plain iterator to its end, all of it into memory.
        asynchronous = isinstance(request._request, ASGIRequest)
        headers = {"Content-Length": str(end - start), "Accept-Ranges": "bytes", "ETag": f'"{sha256}"'}
        if not whole:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.length}"
        return StreamingHttpResponse(
            _one_by_one(content) if asynchronous else content,
            status=200 if whole else 206,
            content_type="application/octet-stream",
            headers=headers,
        )


def byte_range(header: str, length: int) -> tuple[int, int] | None:
    """Half-open range of bytes that ``header`` asks for; everything for a header that is absent or not one plain range;
    None when it lies outside."""
    asked = _RANGE.fullmatch(header.strip())
    if asked is None or asked[0] == "bytes=-":
        return 0, length
    first, last = asked[1], asked[2]
    if not first:  # the last so many bytes
        return (max(0, length - int(last)), length) if int(last) else None
    start = int(first)
    end = min(int(last) + 1, length) if last else length
    return (start, end) if start < end else None


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, each read in a thread."""

    def read() -> bytes:
        return next(pieces, b"")

    while piece := await sync_to_async(read)():
        yield piece


def _body(request: Request) -> Iterator[bytes]:
    # Django's own request: the framework takes a body without Content-Length (sent in chunks) for an empty one.
    stream = request._request
    return iter(lambda: stream.read(storage.PIECE), b"")


def _check(sha256: str) -> None:
    if _SHA256.fullmatch(sha256) is None:
        raise BadRequest("An artifact is named by its SHA-256: 64 lower-case hex digits.")
