"""One TUF document: bytes to something whose signatures were verified, or a refusal.

Only python-tuf's public API is used here. Its client's own state machine is private, takes the time from the machine's
clock, and a frame without one needs to say what time it is; what it does is written anew in ``roots`` and
``repository``, in the order of TUF's detailed client workflow.
"""

from typing import TypeVar

from tuf.api.exceptions import LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from protocol.errors import Reason, Refused

Document = TypeVar("Document", Root, Timestamp, Snapshot, Targets)
Delegator = Root | Targets

_WORDS: dict[Reason, str] = {
    Reason.WRONG_SIGNATURE: "is not signed by the keys this frame trusts",
    Reason.EXPIRED: "has expired: publish a newer one, or check the frame's clock",
    Reason.OLD_VERSION: "is older than what this frame has seen",
    Reason.ROLES_DISAGREE: "is not the one the repository's signed lists name",
    Reason.BAD_MESSAGE: "is no TUF document",
}


def refusal(role: str, reason: Reason) -> Refused:
    """The sentence about a document of ``role``."""
    return Refused(reason, f"The repository's {role[:64]} {_WORDS[reason]}.")


def parse(kind: type[Document], data: bytes, role: str) -> Metadata[Document]:
    """The document in ``data``, its signatures not verified. Raises Refused(BAD_MESSAGE)."""
    try:
        document: Metadata[Document] = Metadata.from_bytes(data)
    except RepositoryError as error:
        raise refusal(role, Reason.BAD_MESSAGE) from error
    if not isinstance(document.signed, kind):
        raise refusal(role, Reason.BAD_MESSAGE)
    return document


def verify(document: Metadata[Document], delegator: Delegator, role: str) -> Document:
    """What the document says, if enough keys that ``delegator`` names for ``role`` signed it.

    Raises Refused(WRONG_SIGNATURE).
    """
    try:
        delegator.verify_delegate(role, document.signed_bytes, document.signatures)
    except (RepositoryError, ValueError) as error:
        raise refusal(role, Reason.WRONG_SIGNATURE) from error
    return document.signed


def read(kind: type[Document], data: bytes, delegator: Delegator, role: str) -> Document:
    """``parse``, then ``verify``."""
    return verify(parse(kind, data, role), delegator, role)


def require_named(meta: MetaFile, data: bytes, role: str) -> None:
    """Raises Refused(ROLES_DISAGREE) unless ``data`` has the length and hashes that a signed list names, if any."""
    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise refusal(role, Reason.ROLES_DISAGREE) from error
