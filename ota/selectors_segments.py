"""Which households need a fix: segments of the fleet by how much more they complain than the rest."""

from ota.models import Release


def release_digest(name_and_version: str) -> str | None:
    """The digest of "name version", None when there is no such release."""
    name, _, version = name_and_version.partition(" ")
    return Release.objects.filter(name=name, version=version.strip()).values_list("digest", flat=True).first()
