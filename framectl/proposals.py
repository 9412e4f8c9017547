"""Documents on their way to enough signatures, without I/O: who may sign what, and what follows from changed keys.

A Proposal is what a ceremony, a change of keys or an incomplete release leaves in the folder. Each person signs it with
a key of their own, on a machine of their own; when the last signature is there it becomes the folder's newest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root

from framectl import documents as tuf
from framectl.errors import CommandFailed
from framectl.publickeys import label, name_of, refuse_doubles
from framectl.signers import sign
from protocol.repository import DELEGATIONS, DIRECTOR_ROOT

ONLINE = {"snapshot": ("root", "snapshot"), "timestamp": ("root", "timestamp"), "director": (DIRECTOR_ROOT, "targets")}
"""Online key -> the document that names it, and the role there."""


@dataclass(frozen=True, slots=True)
class OpenRelease:
    """The release an incomplete package belongs to: ``manifest`` is its release.json."""

    name: str
    version: str
    manifest: bytes


@dataclass(frozen=True)
class Proposal:
    """Documents that lack signatures; ``release`` when they come from ``framectl release sign``."""

    documents: tuf.Documents
    release: OpenRelease | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of the keys of one role: added, removed (by key id), and how many must sign."""

    role: str
    add: tuple[Key, ...] = ()
    remove: tuple[str, ...] = ()
    threshold: int | None = None


def add_signatures(proposed: tuf.Documents, current: tuf.Documents, signers: Sequence[Signer]) -> list[str]:
    """Sign wherever a signer's key belongs and has not signed; returns "role by key" of each. Raises CommandFailed."""
    done: list[str] = []
    for need in tuf.needs(proposed, current):
        document = proposed[need.role]
        for signer in signers:
            key = need.unsigned.get(signer.public_key.keyid)
            if key is None or f"{need.role} by {label(key)}" in done:
                continue
            document.signatures[key.keyid] = sign(signer, label(key), document.signed_bytes)
            done.append(f"{need.role} by {label(key)}")
    for need in tuf.needs(proposed, current):
        for keyid in need.unsigned.keys() & proposed[need.role].signatures.keys():
            if any(signer.public_key.keyid == keyid for signer in signers):
                raise CommandFailed(f"The signature of {label(need.unsigned[keyid])} does not hold: look at that key.")
    return done


def refuse_tampered(current: tuf.Documents, proposed: tuf.Documents, now: datetime) -> None:
    """The folder goes from hand to hand: a proposal may change keys, thresholds and dates, which its signers are shown
    (``differences``), and nothing else. Raises CommandFailed."""
    for role, document in proposed.items():
        signed, before = document.signed, current.get(role)
        what = None
        if signed.version != (1 if before is None else before.signed.version + 1):
            what = f"has version {signed.version}, which does not come next"
        elif signed.expires > tuf.expiry(now) + timedelta(days=1):
            what = f"would be valid until {signed.expires:%Y-%m-%d}"
        elif role in tuf.TARGETS_ROLES and signed.targets != ({} if before is None else before.signed.targets):
            what = "lists other files than before"
        elif role in DELEGATIONS and signed.delegations is not None:
            what = "delegates further"
        elif role == "targets":
            paths = {name: (entry.paths, entry.terminating) for name, entry in tuf.delegations(document).items()}
            if paths != {name: (list(own), True) for name, own in DELEGATIONS.items()}:
                what = "delegates something else than it should"
        if what is not None:
            raise CommandFailed(f"The proposed {role} document {what}: do not sign it, and ask who carried the folder.")
    merged = {**current, **proposed}
    for role in (*tuf.KEY_ROLES, *ONLINE):
        if document_of(role)[0] in proposed:
            check_holders(role, holders(merged, role))


def missing(proposed: tuf.Documents, current: tuf.Documents) -> list[tuf.Need]:
    """What is still to be signed."""
    return [need for need in tuf.needs(proposed, current) if not need.met]


def change_keys(
    current: tuf.Documents, proposed: tuf.Documents, changes: Sequence[Change], now: datetime
) -> tuf.Documents:
    """``proposed`` with the keys changed, and with everything that must be signed anew because of it.

    Documents that change lose the signatures they had collected. Raises CommandFailed.
    """
    found = dict(proposed)
    for change in changes:
        where, role = document_of(change.role)
        before = found.get(where)
        document = tuf.copy_of(before) if before is not None else tuf.next_version(current[where], now)
        document.signatures.clear()
        _apply(document, role, change)
        found[where] = document
    return resigned(current, found, now)


def resigned(current: tuf.Documents, proposed: tuf.Documents, now: datetime) -> tuf.Documents:
    """``proposed``, and the next version of whatever its new keys no longer cover."""
    found = dict(proposed)
    for role in tuf.TARGETS_ROLES:
        if role in found or role not in current:
            continue
        delegator = (current | found)[tuf.delegator_of(role)].signed
        if not tuf.need_of(delegator, role, current[role]).met:
            found[role] = tuf.next_version(current[role], now)
    return found


def renewed(current: tuf.Documents, roles: Sequence[str], now: datetime) -> tuf.Documents:
    """The next version of these documents, with nothing changed but the date."""
    return {role: tuf.next_version(current[role], now) for role in roles}


def holders(documents: tuf.Documents, role: str) -> tuf.Holders:
    """Keys and threshold of ``role``: one of KEY_ROLES or of ONLINE."""
    where, name = document_of(role)
    signed = documents[where].signed
    try:
        entry = signed.roles[name] if isinstance(signed, Root) else tuf.delegations(documents[where])[name]
        keys = signed.keys if isinstance(signed, Root) else signed.delegations.keys
        return tuf.Holders(tuple(keys[keyid] for keyid in entry.keyids), entry.threshold)
    except KeyError:
        raise CommandFailed(f"The {where} document does not say whose keys {role} has: do not sign it.") from None


def differences(current: tuf.Documents, proposed: tuf.Documents) -> list[str]:
    """What the proposal changes about keys, one line a role: what a person looks at before signing."""
    found: list[str] = []
    for role in (*tuf.KEY_ROLES, *ONLINE) if current else ():
        before, after = holders(current, role), holders(current | proposed, role)
        old, new = ({key.keyid: key for key in held.keys} for held in (before, after))
        words = [f"adds {label(key)}" for keyid, key in new.items() if keyid not in old]
        words += [f"removes {label(key)}" for keyid, key in old.items() if keyid not in new]
        if before.threshold != after.threshold:
            words.append(f"{after.threshold} must sign, not {before.threshold}")
        if words:
            found.append(f"{role}: {', '.join(words)}")
    return found


def document_of(role: str) -> tuple[str, str]:
    """The document that names the keys of ``role``, and what the role is called there. Raises CommandFailed."""
    if role in ONLINE:
        return ONLINE[role]
    if role in ("root", "targets"):
        return "root", role
    if role == DIRECTOR_ROOT:
        return DIRECTOR_ROOT, "root"
    if role in DELEGATIONS:
        return "targets", role
    raise CommandFailed(f"There is no role {role!r}: use one of {', '.join((*tuf.KEY_ROLES, *ONLINE))}.")


def find_key(documents: tuf.Documents, given: str) -> Key:
    """The one offline key with this name or with a key id that begins so. Raises CommandFailed."""
    every = {key.keyid: key for role in tuf.KEY_ROLES for key in holders(documents, role).keys}
    found = [key for key in every.values() if name_of(key) == given]
    if not found and len(given) >= 4:
        found = [key for keyid, key in every.items() if keyid.startswith(given)]
    if len(found) != 1:
        what = "No key" if not found else "More than one key"
        raise CommandFailed(f"{what} is called {given!r}: `framectl keys status` lists names and key ids.")
    return found[0]


def revocation(documents: tuf.Documents, keyid: str) -> list[Change]:
    """The changes that take this key out of every role. Raises CommandFailed when a role would be left too few."""
    changes = []
    for role in tuf.KEY_ROLES:
        held = holders(documents, role)
        if keyid not in {key.keyid for key in held.keys}:
            continue
        if len(held.keys) - 1 < held.threshold:
            raise CommandFailed(
                f"The role {role} would have {len(held.keys) - 1} keys, but {held.threshold} must sign: replace the "
                f"key with `framectl keys rotate --role {role} --add NEW.pub --remove {keyid[:8]}`."
            )
        changes.append(Change(role, remove=(keyid,)))
    return changes


def online_changes(documents: tuf.Documents, online: Mapping[str, Key]) -> list[Change]:
    """The changes that make the roots name exactly these online keys."""
    changes = []
    for role, key in online.items():
        held = {one.keyid for one in holders(documents, role).keys}
        if held != {key.keyid}:
            changes.append(Change(role, add=(key,), remove=tuple(sorted(held - {key.keyid}))))
    return changes


def _apply(document: Metadata[Any], role: str, change: Change) -> None:
    signed = document.signed
    for key in change.add:
        signed.add_key(key, role)
    for keyid in change.remove:
        try:
            signed.revoke_key(keyid, role)
        except ValueError:
            raise CommandFailed(f"The role {change.role} has no key {keyid[:8]}: nothing to remove.") from None
    entry = signed.roles[role] if isinstance(signed, Root) else signed.delegations.roles[role]
    if change.threshold is not None:
        entry.threshold = change.threshold
    keys = signed.keys if isinstance(signed, Root) else signed.delegations.keys
    check_holders(change.role, tuf.Holders(tuple(keys[keyid] for keyid in entry.keyids), entry.threshold))


def check_holders(role: str, held: tuf.Holders) -> None:
    """Raises CommandFailed when the threshold cannot be met or a key would count twice."""
    if not 1 <= held.threshold <= len(held.keys):
        raise CommandFailed(
            f"The role {role} would have {len(held.keys)} keys, but {held.threshold} must sign: add keys, or choose a "
            "threshold that they can meet."
        )
    refuse_doubles(role, held.keys)
