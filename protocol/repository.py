"""How the TUF repository is laid out, and what a signed target says about its file.

root ─┬─ targets ─┬─ base     base/*      base models (bundles)
      │           ├─ lora     lora/*      LoRA deltas (adapters)
      │           ├─ agent    agent/*     the agent itself
      │           └─ release  release/*   release manifests: which artifacts belong together
      ├─ snapshot   (online)
      └─ timestamp  (online)

The director has a root of its own whose ``targets`` role names the online key that signs DesiredStates.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from protocol.errors import Reason, Refused
from protocol.limits import MAX_TARGETS_PER_RELEASE
from protocol.messages import Sentence, Sha256, TargetRef, Word

ArtifactKind = Literal["base_model", "lora_delta", "agent", "asset", "release"]

DELEGATIONS: dict[str, tuple[str, ...]] = {
    "base": ("base/*",),
    "lora": ("lora/*",),
    "agent": ("agent/*",),
    "release": ("release/*",),
}
"""Delegated role -> TUF path patterns."""

OFFLINE_ROLES = ("root", "targets", *DELEGATIONS)
ONLINE_ROLES = ("snapshot", "timestamp")
DIRECTOR_ROOT = "director-root"
"""The director's root where documents are named by role, as in ``repo/meta/director-root/1``."""

KEY_NAME = "x-framefleet-name"
"""The field of a TUF key that says what people call it, so that whoever misses a signature can name whose. Signed with
the document that names the key; it is no part of the key id and nothing is decided by it."""

ROLE_OF_KIND: dict[ArtifactKind, str] = {
    "base_model": "base",
    "lora_delta": "lora",
    "agent": "agent",
    "asset": "base",
    "release": "release",
}


def role_of(path: str) -> str:
    """The delegated role that may sign ``path``. Raises Refused when none may."""
    role = path.partition("/")[0]
    if role not in DELEGATIONS or path.count("/") != 1:
        raise Refused(Reason.BAD_MESSAGE, f"No role may sign the target {path!r}: use one of {', '.join(DELEGATIONS)}.")
    return role


class RuntimeRange(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Versions of one runtime (``onnx`` or ``rknn``) from ``at_least`` on, before ``below``."""

    name: Literal["onnx", "rknn"]
    at_least: Word = "0"
    below: Word | None = None

    def __str__(self) -> str:
        return f"{self.name}>={self.at_least}" + ("" if self.below is None else f",<{self.below}")


class ArtifactManifest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the ``custom`` field of a signed TUF target says about its file."""

    kind: ArtifactKind
    index: Sha256 | None = None
    """Root of the chunk index; None for a file of one chunk."""
    base_model: Sha256 | None = None
    """The bundle a LoRA delta is bound to."""
    version: Word | None = None
    """Of an agent: the one it reports; None for everything else."""
    hardware: Annotated[list[Word], Meta(max_length=16)] = []
    """Hardware it runs on; empty for any."""
    min_agent: Word = "0"
    runtimes: Annotated[list[RuntimeRange], Meta(max_length=8)] = []
    """It runs on any one of these; empty for every runtime."""
    security_epoch: Annotated[int, Meta(ge=0, le=2**31)] = 0
    """Of a release: a frame that committed one accepts no release of a smaller epoch afterwards. That tells a rollback
    (same epoch, newer DesiredState) from a downgrade to something known to be dangerous."""


class ReleaseManifest(Struct, frozen=True, kw_only=True):
    """The content of a ``release/*`` target: artifacts that belong together. Its SHA-256 is the release's digest."""

    v: Literal[1] = 1
    name: Word
    version: Word
    targets: Annotated[list[TargetRef], Meta(min_length=1, max_length=MAX_TARGETS_PER_RELEASE)]
    notes: Sentence = ""


def artifact_manifest(custom: object) -> ArtifactManifest:
    """The manifest in a TUF target's ``custom``. Raises Refused when it is not one."""
    try:
        return msgspec.convert(custom, ArtifactManifest)
    except msgspec.ValidationError as error:
        raise Refused(Reason.BAD_MESSAGE, f"The signed target carries no artifact manifest: {error}.") from None
