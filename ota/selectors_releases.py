"""Finding releases by what people call them."""

from ota.models import Release


def release_digest(name_and_version: str) -> str | None:
    """The digest of "name version", None when there is no such release."""
    name, _, version = name_and_version.partition(" ")
    return Release.objects.filter(name=name, version=version.strip()).values_list("digest", flat=True).first()
