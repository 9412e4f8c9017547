"""Whose signatures count from now on: the next roots, the next targets, and what was signed anew because of them.

Everything is checked as a frame will check it: a root by the keys of the root before it and by its own, the rest from
there down. One transaction stores all of it, switches online keys that a new root names, signs snapshot and timestamp
with them, and has every DesiredState signed again if the director's key changed. Every root stays with the broker for
good: a frame that comes back after a year walks through them.
"""

from collections.abc import Mapping

from django.db import transaction
from django.utils import timezone
from tuf.api.metadata import Targets

from fleet.services.audit import audit
from ota import documents, keys, repository, roots
from ota.documents import ROOTS, Document, refuse
from ota.locks import Lock, hold
from ota.services import director
from protocol.repository import DELEGATIONS

Documents = Mapping[str, Document]


@transaction.atomic
def push(given: Mapping[str, object], actor: str) -> dict[str, Document]:
    """Accept newer documents (TUF JSON by role; a list of successive versions for a root). Returns all newest ones.

    Giving the same ones again is harmless. Raises Refused with one sentence, and keeps nothing.
    """
    hold(Lock.REPOSITORY)
    hold(Lock.DIRECTOR)
    current = repository.newest_documents()
    if "targets" not in current:
        raise refuse("The repository is not set up: run framectl repository init first.")
    if extra := [role for role in given if role not in documents.FIRST_KINDS]:
        raise refuse(f"Only {', '.join(documents.FIRST_KINDS)} can be pushed here, not {', '.join(extra)}.")
    steps = {role: roots.steps(role, current[role], given[role]) for role in ROOTS if role in given}
    accepted = {role: found[-1] for role, found in steps.items() if found}
    for role in ("targets", *DELEGATIONS):
        if role in given and (document := _next(current[role], given[role])) is not None:
            accepted[role] = document
    if not accepted:
        return current
    after = {**current, **accepted}
    _check(current, accepted, after)
    now = timezone.now()
    before = keys.online_key_or_none("director")
    between = [document for found in steps.values() for document in found[:-1]]
    repository.publish({f"{one.role} {one.version}": one for one in (*between, *accepted.values())})
    if keys.online_key("director") != before:
        director.mark_due(now)
    audit(
        actor,
        "repository.roles",
        ", ".join(f"{role} {one.version}" for role, one in accepted.items()),
        {"versions": {role: one.version for role, one in accepted.items()}},
        now,
    )
    return repository.newest_documents()


def _next(before: Document, content: object) -> Document | None:
    """A newer document of a targets role with the same files, None when it is the one that is here."""
    document = documents.parse(before.role, content, Targets)
    if document.version <= before.version:
        roots.refuse_other(before, document)
        return None
    if document.metadata.signed.targets != before.metadata.signed.targets:
        raise refuse(
            f"The {before.role} document lists other files than before: files come with releases, so push the packages "
            "that were signed before, or run framectl repository pull and sign anew."
        )
    return document


def _check(current: Documents, accepted: Documents, after: Documents) -> None:
    now = timezone.now()
    for document in accepted.values():
        documents.check_life(document, now)
    if any(role in accepted for role in ROOTS):
        repository.check_online_keys(after)
    if "targets" in accepted:
        documents.check_delegations(after["targets"])
        documents.check_each_key_once(after["targets"])
    # Also what was not sent: it must still hold under the new keys.
    documents.check_signed(after["root"].metadata.signed, after["targets"])
    for role in DELEGATIONS:
        documents.check_signed(after["targets"].metadata.signed, after[role])
        documents.check_no_delegations(after[role])
