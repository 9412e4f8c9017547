"""Taking artifacts in and cutting them into retained chunks."""

import hashlib
import os
import tempfile
from collections.abc import Iterable

from ota import storage
from ota.models import Artifact, RetainedObject
from protocol.chunks import ChunkIndex, build_index, chunk_length, read_chunks
from protocol.errors import Reason, Refused
from protocol.limits import MAX_OBJECT
from protocol.topics import chunk_topic

BATCH = 2_000


def store(sha256: str, pieces: Iterable[bytes]) -> tuple[Artifact, bool]:
    """Keep the bytes as artifact ``sha256``; (artifact, whether it is new).

    Raises Refused(BAD_ARTIFACT) when they do not hash to the name, are none or too many; nothing is kept then.
    """
    known = Artifact.objects.filter(pk=sha256).first()
    if known is not None and storage.has(sha256, known.length):
        return known, False
    with tempfile.TemporaryFile() as file:
        length, whole = 0, hashlib.sha256()
        for piece in pieces:
            length += len(piece)
            if length > MAX_OBJECT:
                raise Refused(Reason.BAD_ARTIFACT, f"An artifact has at most {MAX_OBJECT} bytes: split this one.")
            whole.update(piece)
            file.write(piece)
        if not length:
            raise Refused(
                Reason.BAD_ARTIFACT, "An artifact has at least one byte: send the file's content as the body."
            )
        if whole.hexdigest() != sha256:
            raise Refused(
                Reason.BAD_ARTIFACT,
                f"The bytes hash to {whole.hexdigest()[:12]}, not to {sha256[:12]}: send the file again.",
            )
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        index = build_index(read_chunks(iter(lambda: file.read(storage.PIECE), b"")))
        file.seek(0)
        storage.keep(sha256, file)
    return Artifact.objects.get_or_create(sha256=sha256, defaults={"length": length, "index_root": index.root or ""})


def queue_chunks(artifact: Artifact) -> None:
    """Have the broker retain the artifact's chunks and those of its index. Harmless when they are queued already."""
    if artifact.retained.exists():
        return
    try:
        index = build_index(storage.pieces(artifact.sha256))
    except OSError:
        raise Refused(
            Reason.BAD_ARTIFACT, f"The stored bytes of artifact {artifact.sha256[:12]} are gone: upload the file again."
        ) from None
    if index.sha256 != artifact.sha256:
        storage.discard(artifact.sha256)
        raise Refused(
            Reason.TAMPERED_CHUNK,
            f"The stored bytes of artifact {artifact.sha256[:12]} were changed: upload the file again.",
        )
    rows = [*_object_rows(artifact, index), *_index_rows(artifact, index)]
    # A chunk that two artifacts share is one topic; whoever came first reads it.
    RetainedObject.objects.bulk_create(rows, batch_size=BATCH, ignore_conflicts=True)


def _object_rows(artifact: Artifact, index: ChunkIndex) -> Iterable[RetainedObject]:
    offset = 0
    for number, sha256 in enumerate(index.chunk_hashes):
        length = chunk_length(index.length, number)
        yield RetainedObject(
            topic=chunk_topic(sha256), order=RetainedObject.Order.CHUNK, artifact=artifact, offset=offset, length=length
        )
        offset += length


def _index_rows(artifact: Artifact, index: ChunkIndex) -> Iterable[RetainedObject]:
    for sha256, chunk in index.index_chunks.items():
        yield RetainedObject(
            topic=chunk_topic(sha256),
            order=RetainedObject.Order.CHUNK,
            artifact=artifact,
            payload=chunk,
            length=len(chunk),
        )
