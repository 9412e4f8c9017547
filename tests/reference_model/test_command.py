import importlib.util
import subprocess
import sys

import pytest

MODULES = (
    "packing",
    "repacking",
    "measuring",
    "microphone",
    "cohorts",
    "conversion",
    "rknn",
    "shape",
    "sentences",
    "speech",
    "visemes",
    "__main__",
)


def test_packing_needs_no_torch() -> None:
    code = f"import sys; sys.modules['torch'] = None; import {', '.join(f'reference_model.{name}' for name in MODULES)}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed here")
def test_building_without_torch_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reference_model", "build", "--out", "/nonexistent"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "framefleet[train]" in done.stderr
    assert "Traceback" not in done.stderr
