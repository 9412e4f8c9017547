"""Both brokers: every test here runs on each."""

from collections.abc import Iterator

import pytest

from tests.brokers.world import World


@pytest.fixture(scope="module", params=["nats", "mosquitto"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World.build(request.param, tmp_path_factory.mktemp(request.param))
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def world(running: World) -> Iterator[World]:
    """The module's broker; clients of the test are closed after it."""
    yield running
    running.hang_up()
