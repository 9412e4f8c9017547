"""A chain of roots: from the one a frame was born with to the newest, one version at a time, over any number of years.

Each root is signed by enough keys of the one before it and of its own, and stored as soon as it is accepted; a cut
between two of them goes on with the next. Dates do not matter on the way: only the last root must not have expired,
and only when something is to be believed because of it. So roots can be walked before the time is known.
"""

import datetime as dt

from tuf.api.metadata import Root

from device_agent.ports import DocumentStore
from device_agent.trust.documents import parse, read, refusal, verify
from protocol.errors import Reason, Refused


class NoTrustAnchor(Exception):
    """The frame has no root it could start from; the message is one sentence that says what to do."""


class RootChain:
    """The newest trusted root, stored in ``documents`` under ``name``. Raises NoTrustAnchor when there is none."""

    def __init__(self, documents: DocumentStore, name: str) -> None:
        self._documents = documents
        self._name = name
        data = documents.load(name)
        if data is None:
            raise NoTrustAnchor(f"The frame has no {name}.json: put the one from its birth into its trust folder.")
        try:
            self._root = _self_signed(data, name)
        except Refused as refused:
            raise NoTrustAnchor(f"The frame's {name}.json cannot be trusted: {refused.detail}") from refused

    @property
    def root(self) -> Root:
        """The newest root that was accepted."""
        return self._root

    def update(self, data: bytes) -> None:
        """The next version. Raises Refused: BAD_MESSAGE, WRONG_SIGNATURE, or OLD_VERSION when it is not the next."""
        document = parse(Root, data, self._name)
        root = verify(document, self._root, "root")
        if root.version != self._root.version + 1:
            older = root.version <= self._root.version
            raise refusal(self._name, Reason.OLD_VERSION if older else Reason.ROLES_DISAGREE)
        verify(document, root, "root")
        if self._stored_version() < root.version:  # another refresh may have come further while this one waited
            self._documents.save(self._name, data)
        self._root = root

    def _stored_version(self) -> int:
        data = self._documents.load(self._name)
        try:
            return 0 if data is None else _self_signed(data, self._name).version
        except Refused:
            return 0

    def require_current(self, now: dt.datetime) -> None:
        """Raises Refused(EXPIRED)."""
        if self._root.is_expired(now):
            raise Refused(
                Reason.EXPIRED, f"The {self._name} document {self._root.version} has expired: publish a newer one."
            )


def _self_signed(data: bytes, name: str) -> Root:
    root = parse(Root, data, name).signed
    return read(Root, data, root, "root")
