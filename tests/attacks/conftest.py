"""A home whose broker somebody else owns."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.home import Home
from tests.device_agent.live import FRAME, OTHER, backend_user, frame_user
from tests.services import BrokerHandle, mqtt_broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerHandle]:
    with mqtt_broker(tmp_path, [backend_user(), frame_user(FRAME), frame_user(OTHER)]) as handle:
        yield handle


@pytest.fixture
def home(tmp_path: Path, broker: BrokerHandle) -> Iterator[Home]:
    home = Home(tmp_path / "frame", broker)
    try:
        home.begin()
        yield home
    finally:
        home.close()
