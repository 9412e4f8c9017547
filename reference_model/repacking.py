"""A bundle with another graph in it: what was trained stays, its hash changes."""

import hashlib
import zipfile
from pathlib import Path

import msgspec

from device_agent.bundle import MANIFEST, Bundle
from device_agent.bundle.check import check_manifest
from device_agent.bundle.manifest import FileEntry, Manifest, RuntimeName, StageName
from reference_model.packing import write_zip


def members_of(path: Path) -> dict[str, bytes]:
    """A bundle's members in their order, each checked. Raises BundleError."""
    with Bundle.open(path) as bundle, zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) if name == MANIFEST else bundle.read(name) for name in archive.namelist()}


def with_graph(path: Path, stage: StageName, runtime: RuntimeName, file: str, graph: bytes) -> bytes:
    """The bundle's bytes with this graph for a stage, in place of the one it may have had for this runtime."""
    members = members_of(path)
    manifest = msgspec.json.decode(members.pop(MANIFEST), type=Manifest)
    old = manifest.stage(stage).graphs.get(runtime)
    if old is not None:
        del members[old], manifest.files[old]
    members[file] = graph
    manifest.files[file] = FileEntry(length=len(graph), sha256=hashlib.sha256(graph).hexdigest())
    manifest.stage(stage).graphs[runtime] = file
    check_manifest(manifest)
    return write_zip({MANIFEST: msgspec.json.format(msgspec.json.encode(manifest), indent=1), **members})
