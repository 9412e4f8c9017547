"""Agents as releases bring them: this very agent in a zip, with another version and, if a test likes, other code."""

import io
import zipfile
from pathlib import Path

import device_agent
import protocol

VERSION = "device_agent/version.py"


def agent_file(version: str, **replaced: str) -> bytes:
    """The zip; ``replaced`` maps a module of ``device_agent`` (dots as ``__``) to its whole text."""
    texts = {f"device_agent/{name.replace('__', '/')}.py": text for name, text in replaced.items()}
    texts[VERSION] = f'AGENT_VERSION = "{version}"\n'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in (device_agent, protocol):
            folder = Path(package.__path__[0])
            for path in sorted(folder.rglob("*.py")):
                name = f"{folder.name}/{path.relative_to(folder)}"
                archive.writestr(zipfile.ZipInfo(name), texts.pop(name) if name in texts else path.read_text())
    assert not texts, f"there is no {texts}"
    return out.getvalue()
