"""``releases/``: pushing, listing and looking at releases."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.errors import BadRequest
from fleet.permissions import Action
from ota import publication
from ota.api.bodies import field
from ota.api.pages import newest_first
from ota.models import Release
from ota.selectors_fit import agent_versions
from ota.services import releases


class ReleaseList(APIView):
    """``GET releases/?limit=&cursor=`` and ``POST releases/``"""

    actions: ClassVar = {"POST": Action.PUSH_RELEASE}

    def get(self, request: Request) -> Response:
        """A page of releases, newest first."""
        return newest_first(request, _releases(), _show_all, "created_at")

    def post(self, request: Request) -> Response:
        """Push a release: 201, or 200 when it was there already."""
        text = field(request, "manifest", str)
        try:
            manifest = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest('"manifest" must be release.json in base64.') from None
        documents = field(request, "documents", dict)
        release, created = releases.create(manifest, documents, request.user.get_username())
        shown = _show_all([_releases().get(pk=release.pk)])[0]
        return Response(shown, status=status.HTTP_201_CREATED if created else status.HTTP_200_OK)


class ReleaseDetail(APIView):
    """``GET releases/{name}/{version}/``"""

    def get(self, request: Request, name: str, version: str) -> Response:
        """One release."""
        release = _releases().filter(name=name, version=version).first()
        if release is None:
            raise NotFound(f"There is no release {name} {version}: see releases/.")
        return Response(_show_all([release])[0])


def _releases() -> QuerySet[Release]:
    return Release.objects.prefetch_related("targets__artifact")


def _show_all(found: list[Release]) -> list[dict[str, Any]]:
    progress = publication.progress([release.digest for release in found])
    agents = agent_versions(found)
    return [_show(release, agents, *progress[release.digest]) for release in found]


def _show(release: Release, agents: Mapping[str, str], published: int, total: int) -> dict[str, Any]:
    """A release as the API gives it; ``publication`` counts the retained chunks of its artifacts, ``version`` is that
    of an agent."""
    return {
        "name": release.name,
        "version": release.version,
        "digest": release.digest,
        "notes": release.notes,
        "created_at": release.created_at,
        "created_by": release.created_by,
        "artifacts": [
            {
                "path": target.path,
                "kind": target.artifact.kind,
                "sha256": target.artifact_id,
                "length": target.artifact.length,
                "version": agents.get(target.path),
            }
            for target in release.targets.all()
        ],
        "published_at": release.published_at,
        "publication": {"published": published, "total": total},
    }
