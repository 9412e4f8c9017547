"""An artifact's bytes over HTTP, whole or one range of them, read piece by piece."""

import re
from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from ota import storage
from ota.models import Artifact

_RANGE = re.compile(r"bytes=(\d{0,16})-(\d{0,16})")


@require_safe
def released(request: HttpRequest, sha256: str) -> HttpResponseBase:
    """``GET /artifacts/{sha256}``: the frames' second source, and what a CDN in front of it reads.

    Without login: the name is the content's hash, every frame reads the same bytes from the broker, and only artifacts
    of releases that the broker has are here.
    """
    artifact = Artifact.objects.filter(pk=sha256, releases__published_at__isnull=False).first()
    if artifact is None or not storage.has(sha256, artifact.length):
        raise Http404
    response = answer(request, artifact)
    response["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def answer(request: HttpRequest, artifact: Artifact) -> HttpResponseBase:
    """200 with all of it, 206 with the range that was asked for, or 416. HEAD says everything but reads nothing."""
    part = byte_range(request.headers.get("Range", ""), artifact.length)
    if part is None:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{artifact.length}"})
    start, end = part
    whole = (start, end) == (0, artifact.length)
    content = iter(()) if request.method == "HEAD" else storage.pieces(artifact.sha256, start, end - start)
    # An asynchronous server would first read a plain iterator to its end, all of it into memory.
    asynchronous = isinstance(request, ASGIRequest)
    headers = {"Content-Length": str(end - start), "Accept-Ranges": "bytes", "ETag": f'"{artifact.sha256}"'}
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
