"""One running world for the tests that only talk to it, which run in one worker: it takes half a minute to come up."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from standalone.broker import find_binary
from standalone.postgres import find_binaries
from standalone.processes import wait_until
from tests.end_to_end.world import Facts
from tests.services import require

START_S = 180.0


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facts]:
    """Everything up, release 1.0 on all frames."""
    require(find_binaries)
    require(find_binary)
    folder = tmp_path_factory.mktemp("world")
    facts = folder / "world.json"
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.world", str(folder)], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            up = wait_until(lambda: facts.exists() or process.poll() is not None, START_S)
            assert up, "the world did not come up in time"
            assert facts.exists(), (folder / "output").read_text()
            yield msgspec.json.decode(facts.read_bytes(), type=Facts)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) in (0, 130)
