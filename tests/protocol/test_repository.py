"""Which role may sign what, and what a signed target must say about its file."""

import pytest

from protocol.errors import Refused
from protocol.repository import ArtifactManifest, artifact_manifest, role_of


def test_a_path_belongs_to_the_role_it_begins_with() -> None:
    assert role_of("lora/mandarin-1.1.adapter") == "lora"


@pytest.mark.parametrize("path", ["", "lora", "root/x", "lora/a/b", "/lora/x", "../lora/x"])
def test_a_path_outside_the_delegations_is_refused(path: str) -> None:
    with pytest.raises(Refused, match="No role may sign"):
        role_of(path)


def test_unknown_fields_of_a_manifest_are_tolerated() -> None:
    manifest = artifact_manifest({"kind": "lora_delta", "base_model": "ab" * 32, "later": 1})
    assert manifest == ArtifactManifest(kind="lora_delta", base_model="ab" * 32)


@pytest.mark.parametrize("custom", [None, {}, {"kind": "virus"}, {"kind": "asset", "index": "zz"}, [1]])
def test_a_target_without_a_manifest_is_refused(custom: object) -> None:
    with pytest.raises(Refused, match="no artifact manifest"):
        artifact_manifest(custom)
