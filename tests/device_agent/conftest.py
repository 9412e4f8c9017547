"""What tests of a running agent share: a real broker, the backend's side of it, and a frame that is not started yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.device_agent.live import FRAME, OTHER, Backend, LiveAgent, backend_user, frame_user
from tests.device_agent.repository import Repository
from tests.services import BrokerHandle, mqtt_broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerHandle]:
    with mqtt_broker(tmp_path, [backend_user(), frame_user(FRAME), frame_user(OTHER)]) as handle:
        yield handle


@pytest.fixture
def backend(broker: BrokerHandle) -> Iterator[Backend]:
    backend = Backend(broker)
    yield backend
    backend.close()


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def agent(tmp_path: Path, broker: BrokerHandle, repository: Repository) -> Iterator[LiveAgent]:
    agent = LiveAgent(tmp_path / "frame", broker, FRAME, repository.anchors())
    yield agent
    if agent.process is not None:
        agent.stop()
