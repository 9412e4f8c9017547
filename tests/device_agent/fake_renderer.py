"""Renderers that do nothing but misbehave: small scripts that speak the renderer's lines."""

import sys
from pathlib import Path

from device_agent.renderer.messages import Play

PLAY = Play(bundle="/b", adapter=None, photo="/p", voice="/v", out="/o")
PLAYED = (
    b'{"type":"played","frames":25,"first_frame_ms":1,"fps":25,"memory_mb":1,'
    b'"power":{"window_s":1,"total_w":1,"estimated":true},"running":{"motion":"onnx"}}\n'
)

_PREAMBLE = f"""
import json, os, signal, sys, time
answers = int(sys.argv[sys.argv.index("--answers") + 1])
PLAYED = {PLAYED!r}

def say(data):
    os.write(answers, data if isinstance(data, bytes) else json.dumps(data).encode() + b"\\n")

def beat(frames=0):
    say({{"type": "beat", "frames": frames}})

def films():
    for line in sys.stdin.buffer:
        yield json.loads(line)
"""


def fake_renderer(folder: Path, body: str) -> list[str]:
    """The command of a renderer that runs ``body``; it can use ``films()``, ``say(line)``, ``beat(frames)``, PLAYED."""
    script = folder / "renderer.py"
    script.write_text(_PREAMBLE + body)
    return [sys.executable, "-I", "-S", str(script)]
