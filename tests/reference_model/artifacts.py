"""The committed artifacts, opened once, and ways to break copies of them."""

import io
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from device_agent.adapters import Adapter, load
from device_agent.bundle import MANIFEST, Bundle
from device_agent.pipeline.stages import StageGraph
from reference_model.packing import write_zip

FOLDER = Path(__file__).parents[2] / "reference_model" / "artifacts"
ASSETS = FOLDER.parent / "assets"
BUNDLE = FOLDER / "talking-portrait-1.0.bundle"
ADAPTER = FOLDER / "mandarin.adapter"
CARELESS = FOLDER / "mandarin-careless.adapter"


@cache
def bundle() -> Bundle:
    return Bundle.open(BUNDLE)


@cache
def adapter(name: str) -> Adapter:
    return load(FOLDER / f"{name}.adapter", bundle().sha256, bundle().manifest.adapter)


def mandarin() -> Adapter:
    return adapter("mandarin")


@cache
def graph() -> StageGraph:
    """The bundle's stages, shared: whoever sets an adapter takes it off again."""
    return StageGraph(bundle())


def members() -> dict[str, bytes]:
    """The committed bundle's members, free to change."""
    with zipfile.ZipFile(BUNDLE) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_manifest(change: Callable[[dict[str, Any]], None]) -> bytes:
    """The committed bundle with its manifest changed."""
    content = members()
    manifest = msgspec.json.decode(content[MANIFEST])
    change(manifest)
    content[MANIFEST] = msgspec.json.encode(manifest)
    return write_zip(content)


def compressed() -> bytes:
    """The committed bundle, deflated."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members().items():
            archive.writestr(name, content)
    return buffer.getvalue()
