"""What a stack keeps below its folder, and what it does when that is damaged or its ports are taken."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from standalone import stack as module
from standalone.postgres import find_binaries
from standalone.processes import HOST, ServiceError
from standalone.stack import KEPT, Stack
from standalone.supervisor import Supervisor
from tests.services import require


@pytest.fixture(autouse=True)
def _services() -> None:
    require(find_binaries)


def test_secrets_and_ports_are_made_once(tmp_path: Path) -> None:
    first, again = Stack.below(tmp_path), Stack.below(tmp_path)
    assert (first.secret_key, first.password) == (again.secret_key, again.password)
    assert (first.web_port, first.broker.port, first.postgres.port) == (
        again.web_port,
        again.broker.port,
        again.postgres.port,
    )
    assert (tmp_path / KEPT).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("*secrets*")] == [KEPT]


def test_what_is_missing_is_made_and_the_rest_stays(tmp_path: Path) -> None:
    first = Stack.below(tmp_path)
    kept = json.loads((tmp_path / KEPT).read_text())
    del kept["web_port"]
    (tmp_path / KEPT).write_text(json.dumps(kept))
    again = Stack.below(tmp_path)
    assert (again.password, again.broker.port) == (first.password, first.broker.port)
    assert Stack.below(tmp_path).web_port == again.web_port


@pytest.mark.parametrize("text", ["", '{"secret_key": "', "[1]", "5"])
def test_a_damaged_file_is_said_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / KEPT).write_text(text)
    with pytest.raises(ServiceError, match=r"secrets\.json is damaged: restore it"):
        Stack.below(tmp_path)
    assert (tmp_path / KEPT).read_text() == text


def test_a_port_that_another_program_took_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PORT_PATIENCE_S", 0.2)
    stack = Stack.below(tmp_path)
    with socket.socket() as other:
        other.bind((HOST, stack.web_port))
        other.listen()
        with pytest.raises(ServiceError, match=f'Port {stack.web_port}, which the web of .* "web_port"'):
            asyncio.run(stack.start_database(Supervisor(tmp_path)))
