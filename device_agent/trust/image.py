"""The frame's TUF client: python-tuf's verification without I/O over documents that somebody else fetched."""

from typing import NoReturn

from tuf.api.exceptions import (
    BadVersionNumberError,
    EqualVersionNumberError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Root, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from device_agent.ports import DocumentStore, SignedTarget
from protocol.errors import Reason, Refused
from protocol.repository import DIRECTOR_ROOT, artifact_manifest, role_of

ROOT = "root"


class NoTrustAnchor(Exception):
    """The frame has no root it could start from; the message is one sentence that says what to do."""


class ImageTrust:
    """One refresh: open it over the stored documents, let ``protocol.sequences.refresh`` feed it, ask ``target``.

    Every accepted document is stored at once, so a cut loses nothing and an older one is recognised afterwards.
    Raises NoTrustAnchor when a root is missing or does not even hold by itself.
    """

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self._image = _anchor(documents, ROOT)
        self._director = _anchor(documents, DIRECTOR_ROOT)

    @property
    def director_root(self) -> Root:
        """The director's newest trusted root."""
        return self._director.root

    def root_version(self, chain: str) -> int:
        return self._chain(chain).root.version

    def update_root(self, chain: str, document: bytes) -> None:
        try:
            self._chain(chain).update_root(document)
        except (RepositoryError, DeserializationError) as error:
            _refuse(chain, error)
        self._documents.save(chain, document)

    def begin(self) -> None:
        for chain in (ROOT, DIRECTOR_ROOT):
            held = self._chain(chain)
            if held.root.is_expired(held.reference_time):
                raise Refused(
                    Reason.EXPIRED, f"The {chain} document {held.root.version} has expired: publish a newer one."
                )
        stored = self._documents.load("timestamp")
        if stored is not None:
            # Even an expired one counts: nothing older than it is accepted.
            self._try_stored("timestamp", stored)

    def needed(self, role: str) -> int | None:
        stored = self._documents.load(role)
        if stored is not None and self._try_stored(role, stored):
            return None
        if role == "snapshot":
            return self._image.timestamp.snapshot_meta.version
        meta = self._image.snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise Refused(Reason.ROLES_DISAGREE, f"The repository's snapshot knows no {role}: publish it first.")
        return meta.version

    def update(self, role: str, document: bytes) -> None:
        try:
            self._take(role, document, trusted=False)
        except EqualVersionNumberError:
            return  # the stored timestamp is the newest one
        except (RepositoryError, DeserializationError) as error:
            _refuse(role, error)
        self._documents.save(role, document)

    def target(self, path: str) -> SignedTarget:
        role = role_of(path)
        top = self._image.targets
        delegation = None if top.delegations is None else (top.delegations.roles or {}).get(role)
        signed = self._image.get(role)
        if delegation is None or not isinstance(signed, Targets) or not delegation.is_delegated_path(path):
            raise Refused(Reason.ROLES_DISAGREE, f"The image repository lets no role sign {path}.")
        file = signed.targets.get(path)
        sha256 = None if file is None else file.hashes.get("sha256")
        if file is None or sha256 is None:
            raise Refused(
                Reason.ROLES_DISAGREE, f"The image repository does not know {path}: push the release, then assign it."
            )
        return SignedTarget(path, file.length, sha256, artifact_manifest(file.custom))

    def _chain(self, chain: str) -> TrustedMetadataSet:
        return self._director if chain == DIRECTOR_ROOT else self._image

    def _try_stored(self, role: str, document: bytes) -> bool:
        """Whether the stored document is still the one to use; kept as a floor where it is only outdated."""
        try:
            self._take(role, document, trusted=True)
        except (RepositoryError, DeserializationError):
            return False
        return True

    def _take(self, role: str, document: bytes, *, trusted: bool) -> None:
        if role == "timestamp":
            self._image.update_timestamp(document)
        elif role == "snapshot":
            self._image.update_snapshot(document, trusted=trusted)
        elif role == "targets":
            self._image.update_targets(document)
        else:
            self._image.update_delegated_targets(document, role, "targets")


def director_root(documents: DocumentStore) -> Root:
    """The director's newest trusted root, without a refresh. Raises NoTrustAnchor."""
    return _anchor(documents, DIRECTOR_ROOT).root


def _anchor(documents: DocumentStore, chain: str) -> TrustedMetadataSet:
    document = documents.load(chain)
    if document is None:
        raise NoTrustAnchor(f"The frame has no {chain}.json: put the one from its birth into its trust folder.")
    try:
        return TrustedMetadataSet(document, EnvelopeType.METADATA)
    except (RepositoryError, DeserializationError) as error:
        raise NoTrustAnchor(f"The frame's {chain}.json cannot be trusted: {error}.") from error


_REASONS: tuple[tuple[type[Exception], Reason, str], ...] = (
    (UnsignedMetadataError, Reason.WRONG_SIGNATURE, "is not signed by the keys this frame trusts"),
    (ExpiredMetadataError, Reason.EXPIRED, "has expired: publish a newer one, or check the frame's clock"),
    (BadVersionNumberError, Reason.OLD_VERSION, "is older than what this frame has seen"),
    (LengthOrHashMismatchError, Reason.ROLES_DISAGREE, "is not the one the repository's signed lists name"),
    (DeserializationError, Reason.BAD_MESSAGE, "is no TUF document"),
)


def _refuse(role: str, error: Exception) -> NoReturn:
    for kind, reason, words in _REASONS:
        if isinstance(error, kind):
            raise Refused(reason, f"The repository's {role} {words}.") from error
    raise Refused(Reason.BAD_MESSAGE, f"The repository's {role} was refused: {error}.") from error
