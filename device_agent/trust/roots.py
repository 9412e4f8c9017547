"""A chain of roots: from the one a frame was born with to the newest, one version at a time, over any number of years.

Each root is signed by enough keys of the one before it and of its own, and stored as soon as it is accepted; a cut
between two of them goes on with the next. Dates do not matter on the way: only the last root must not have expired,
and only when something is to be believed because of it. So roots can be walked before the time is known.
"""

import datetime as dt
from contextlib import suppress

from tuf.api.metadata import Root

from device_agent.ports import DocumentStore
from device_agent.trust.documents import parse, read, refusal, verify
from protocol.errors import Reason, Refused

COPY = "-copy"
"""What the second copy of a root is called."""


class NoTrustAnchor(Exception):
    """The frame has no root it could start from; the message is one sentence that says what to do."""


class RootChain:
    """The newest trusted root, stored in ``documents`` under ``name``; ``twice`` keeps a copy beside it. Raises
    NoTrustAnchor when there is none."""

    def __init__(self, documents: DocumentStore, name: str, *, twice: bool = False) -> None:
        self._documents = documents
        self._name = name
        self._twice = twice
        self._root = self._read()

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
        stored = self._stored(self._name)
        if stored is None or stored[0].version < root.version:  # another refresh may have come further meanwhile
            self._save(data)
        self._root = root

    def _read(self) -> Root:
        """The stored root. Flash rots, and without this file the agent would not even start: so there are two."""
        first, second = self._stored(self._name), self._stored(self._name + COPY) if self._twice else None
        good = [one for one in (first, second) if one is not None]
        if not good:
            raise NoTrustAnchor(
                f"The frame has no {self._name}.json that can be trusted: put the one of its birth into its folder."
            )
        root, data = max(good, key=lambda one: one[0].version)
        with suppress(OSError):  # a full disk; the next start tries again
            self._save(data)
        return root

    def _stored(self, name: str) -> tuple[Root, bytes] | None:
        try:
            data = self._documents.load(name)
            return None if data is None else (_self_signed(data, self._name), data)
        except (Refused, OSError):
            return None

    def _save(self, data: bytes) -> None:
        for name in (self._name, self._name + COPY) if self._twice else (self._name,):
            if self._documents.load(name) != data:
                self._documents.save(name, data)

    def require_current(self, now: dt.datetime) -> None:
        """Raises Refused(EXPIRED)."""
        if self._root.is_expired(now):
            raise Refused(
                Reason.EXPIRED, f"The {self._name} document {self._root.version} has expired: publish a newer one."
            )


def _self_signed(data: bytes, name: str) -> Root:
    root = parse(Root, data, name).signed
    return read(Root, data, root, "root")
