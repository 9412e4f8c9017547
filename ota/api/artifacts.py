"""``artifacts/{sha256}/``: bytes by their hash."""

import re
from collections.abc import Iterator
from typing import ClassVar

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
from ota.serving import answer

_SHA256 = re.compile(r"[0-9a-f]{64}")


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
        answered = answer(request._request, artifact)
        if answered.status_code == status.HTTP_416_REQUESTED_RANGE_NOT_SATISFIABLE:
            return Response(
                {"detail": f"The artifact has {artifact.length} bytes: ask for a range within them."},
                status=answered.status_code,
                headers=dict(answered.items()),
            )
        return answered


def _body(request: Request) -> Iterator[bytes]:
    # Django's own request: the framework takes a body without Content-Length (sent in chunks) for an empty one.
    stream = request._request
    return iter(lambda: stream.read(storage.PIECE), b"")


def _check(sha256: str) -> None:
    if _SHA256.fullmatch(sha256) is None:
        raise BadRequest("An artifact is named by its SHA-256: 64 lower-case hex digits.")
