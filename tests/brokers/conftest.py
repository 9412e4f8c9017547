"""Both brokers: every test here runs on each."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.brokers.world import World

if TYPE_CHECKING:
    from tests.brokers.bridge import RunningBridge


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


@pytest.fixture
def tables(transactional_db: None) -> Iterator[None]:
    """The database for threads too: what they leave open is closed, or it could not be dropped in the end."""
    yield
    from django.db import connection  # here, because this file is read before Django is set up

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture
def bridge(world: World, tables: None, tmp_path: Path) -> "Iterator[RunningBridge]":
    from tests.brokers.bridge import RunningBridge

    running = RunningBridge(world, tmp_path)
    yield running
    running.stop()
