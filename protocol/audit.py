"""The audit log's hash chain: what an entry's digest covers, and how a reader proves that nothing was changed.

Entries are numbered from 1. A digest covers the entry and the digest before it, so whoever knows the digest of one
entry (a *head*) can tell whether that entry or any before it was changed, left out or put in. The backend computes
digests inside its database, at commit (see fleet's migrations); this is the same rule for readers. A digest is SHA-256
over these fields in order, each as a netstring (``length:text,``, length in bytes of UTF-8): number, time in
microseconds since 1970 UTC, actor, action, subject, detail, previous digest.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated

from msgspec import Meta, Struct

from protocol.messages import Sha256

FIRST = "0" * 64
"""What the first entry has for a digest before it."""


class AuditRecord(Struct, frozen=True, kw_only=True):
    """One entry. ``detail`` is JSON text exactly as the database writes it."""

    number: Annotated[int, Meta(ge=1)]
    at_us: int
    actor: str
    action: str
    subject: str
    detail: str
    previous: Sha256
    digest: Sha256


class AuditHead(Struct, frozen=True, kw_only=True):
    """The newest entry as it was at some time; kept where whoever can write the database cannot."""

    number: Annotated[int, Meta(ge=1)]
    digest: Sha256
    at_ms: Annotated[int, Meta(ge=0)] = 0


class BrokenChain(Exception):
    """The log is not what it was. The message is one sentence that names the entry."""


def digest_of(record: AuditRecord) -> str:
    """The digest that this entry must have, in hex."""
    whole = hashlib.sha256()
    for text in (
        str(record.number), str(record.at_us), record.actor, record.action, record.subject, record.detail,
        record.previous,
    ):  # fmt: skip
        data = text.encode()
        whole.update(b"%d:%s," % (len(data), data))
    return whole.hexdigest()


def verify(records: Iterable[AuditRecord], heads: Mapping[int, str]) -> AuditHead | None:
    """Read the whole log from its first entry. Returns its head, None for an empty one.

    ``heads`` maps numbers to the digests that were seen for them at some time. Raises BrokenChain.
    """
    number, digest = 0, FIRST
    for record in records:
        if record.number != number + 1:
            raise BrokenChain(f"Entry {number + 1} of the audit log is missing: {record.number} comes instead.")
        if record.previous != digest or record.digest != digest_of(record):
            raise BrokenChain(f"Entry {record.number} of the audit log was changed after it was written.")
        number, digest = record.number, record.digest
        if heads.get(number, digest) != digest:
            raise BrokenChain(
                f"Entry {number} of the audit log, or one before it, was replaced: its digest was {heads[number]} when "
                "its head was published."
            )
    if heads and max(heads) > number:
        raise BrokenChain(
            f"The audit log ends with entry {number}, but a head of entry {max(heads)} was published: entries are "
            "missing."
        )
    return AuditHead(number=number, digest=digest) if number else None
