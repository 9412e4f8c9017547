"""The frame's TUF client over MQTT: the image repository, and the director's roots beside it.

``protocol.sequences.refresh`` brings the documents; this says which are needed and whether they are believed. It is
stricter than TUF asks for: only the delegations of ``protocol.repository`` are followed, one level deep, and a target
without a SHA-256 is none.
"""

from tuf.api.metadata import Root

from device_agent.ports import DocumentStore, SignedTarget
from device_agent.trust.repository import ROOT, TOP, Needed, RepositoryTrust
from device_agent.trust.roots import NoTrustAnchor, RootChain
from device_agent.trust.time import Now, required, utc_now
from protocol.errors import Reason, Refused
from protocol.repository import DIRECTOR_ROOT, artifact_manifest, role_of

__all__ = ["ImageTrust", "NoTrustAnchor", "director_root"]


class ImageTrust:
    """One refresh: open it over the stored documents, let ``protocol.sequences.refresh`` feed it, ask ``target``.

    ``now`` is security time; while it is unknown, roots are walked all the same and everything else is refused.
    Raises NoTrustAnchor when a root is missing or does not even hold by itself.
    """

    def __init__(self, documents: DocumentStore, now: Now = utc_now) -> None:
        self._now = now
        self._image = RepositoryTrust(documents, now, twice=True)
        self._director = RootChain(documents, DIRECTOR_ROOT, twice=True)

    @property
    def director_root(self) -> Root:
        """The director's newest trusted root."""
        return self._director.root

    def root_version(self, chain: str) -> int:
        return self._chain(chain).root.version

    def update_root(self, chain: str, document: bytes) -> None:
        self._chain(chain).update(document)

    def begin(self) -> None:
        self._director.require_current(required(self._now))
        self._image.begin()

    def needed(self, role: str) -> int | None:
        needed = self._needed(role)
        return None if needed is None else needed.version

    def update(self, role: str, document: bytes) -> None:
        if role == "timestamp":
            self._image.take_timestamp(document)
        elif role == "snapshot":
            self._image.take_snapshot(document)
        else:
            self._image.take_targets(document, role, _delegator(role))

    def target(self, path: str) -> SignedTarget:
        role = role_of(path)
        top = self._image.targets(TOP)
        delegation = None if top.delegations is None else (top.delegations.roles or {}).get(role)
        if delegation is None or not delegation.is_delegated_path(path):
            raise Refused(Reason.ROLES_DISAGREE, f"The image repository lets no role sign {path}.")
        file = self._image.targets(role).targets.get(path)
        sha256 = None if file is None else file.hashes.get("sha256")
        if file is None or sha256 is None:
            raise Refused(
                Reason.ROLES_DISAGREE, f"The image repository does not know {path}: push the release, then assign it."
            )
        return SignedTarget(path, file.length, sha256, artifact_manifest(file.custom))

    def _chain(self, chain: str) -> RootChain:
        return self._director if chain == DIRECTOR_ROOT else self._image.roots

    def _needed(self, role: str) -> Needed | None:
        if role == "snapshot":
            return self._image.needed_snapshot()
        return self._image.needed_targets(role, _delegator(role))


def director_root(documents: DocumentStore) -> Root:
    """The director's newest trusted root, without a refresh. Raises NoTrustAnchor."""
    return RootChain(documents, DIRECTOR_ROOT, twice=True).root


def _delegator(role: str) -> str:
    return ROOT if role == TOP else TOP
