"""Successive roots: each signed by the one before it and by itself, without a gap, as frames walk through them."""

from tuf.api.metadata import Root

from ota import documents
from ota.documents import Document, refuse
from protocol.limits import MAX_ROOT_STEPS


def steps(role: str, before: Document | None, content: object) -> list[Document]:
    """The roots in ``content`` (one TUF document, or a list of successive ones) that come after ``before``.

    Without one before them, the first only has to hold by itself. Roots that are known already are left out. Raises
    Refused.
    """
    given = content if isinstance(content, list) else [content]
    if len(given) > MAX_ROOT_STEPS:
        raise refuse(f"More than {MAX_ROOT_STEPS} roots at once: push them in smaller numbers.")
    found: list[Document] = []
    for one in given:
        document = documents.parse(role, one, Root)
        if before is not None:
            if document.version <= before.version and not found:
                refuse_other(before, document)
                continue
            if document.version != before.version + 1:
                raise refuse(
                    f"The {role} document has version {document.version}, but {before.version + 1} comes next: "
                    "frames walk through them one by one, so push every version."
                )
            documents.check_signed(before.metadata.signed, document, "root")
        documents.check_signed(document.metadata.signed, document, "root")
        documents.check_each_key_once(document)
        found.append(document)
        before = document
    return found


def refuse_other(before: Document, document: Document) -> None:
    """Raises Refused unless ``document``, which is not newer than ``before``, is that very document."""
    if document.version == before.version and document.wire != before.wire:
        raise refuse(
            f"The {before.role} document {document.version} is here already with other content or signatures: run "
            "framectl repository pull and sign anew."
        )
    if document.version < before.version:
        raise refuse(
            f"The {before.role} document has version {document.version}, but {before.version} is here: run framectl "
            "repository pull and sign anew."
        )
