"""``online-keys/`` and ``repository/``: what offline folders need of the server, and its first documents."""

from typing import Any, ClassVar

import msgspec
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.permissions import Action
from ota import keys, repository
from ota.api.bodies import field
from ota.documents import Document
from ota.models import TufDocument
from ota.services import roles


class OnlineKeys(APIView):
    """``GET online-keys/``"""

    def get(self, request: Request) -> Response:
        """The public online keys by role."""
        return Response(keys.public_keys())


class Repository(APIView):
    """``GET``, ``POST`` and ``PUT repository/``"""

    actions: ClassVar = {"POST": Action.SET_UP_REPOSITORY, "PUT": Action.SET_UP_REPOSITORY}

    def get(self, request: Request) -> Response:
        """The newest document of every role; none before the repository is set up."""
        return Response(show_documents(repository.newest_documents()))

    def post(self, request: Request) -> Response:
        """Set the repository up with its first documents."""
        fresh = not repository.is_set_up()
        documents = repository.accept_first(field(request, "documents", dict))
        return Response(show_documents(documents), status=status.HTTP_201_CREATED if fresh else status.HTTP_200_OK)

    def put(self, request: Request) -> Response:
        """Take newer roots (each a list of successive versions), targets and documents signed anew."""
        found = roles.push(field(request, "documents", dict), request.user.get_username())
        return Response(show_documents(found))


class RepositoryDocument(APIView):
    """``GET repository/{role}/{version}/``"""

    def get(self, request: Request, role: str, version: int) -> Response:
        """One document of any version that was ever accepted: offline folders walk through the roots."""
        row = TufDocument.objects.filter(role=role, version=version).first() if version < 2**31 else None
        if row is None:
            raise NotFound(f"There is no {role} document {version}: see repository/.")
        return Response(msgspec.json.decode(bytes(row.document)))


def show_documents(documents: dict[str, Document]) -> dict[str, Any]:
    """Documents by role as the API gives them."""
    return {"documents": {role: msgspec.json.decode(document.wire) for role, document in documents.items()}}
