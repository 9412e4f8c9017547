"""One embedded PostgreSQL for the run (for each worker of it), started when the first test asks for a database.

Django's settings come from the environment, so the environment is set here, before anything imports them. A
DATABASE_URL that is set already is used as it is. Runs that collect only parts without Django never load it.
"""

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from standalone.postgres import Postgres

TESTS = Path(__file__).parent
IN_ONE_WORLD = tuple(f"tests/end_to_end/test_{what}.py" for what in ("bad_input", "birth", "new_agent", "new_frame"))
WITHOUT_DJANGO = {"protocol", "device_agent", "simulator", "reference_model", "standalone"}

server_key: "pytest.StashKey[Postgres]" = pytest.StashKey()
missing_key = pytest.StashKey[str]()
folder_key = pytest.StashKey[Path]()


def _needs_django(config: pytest.Config) -> bool:
    """Whether the run collects tests of a part that is built on Django."""
    if find_spec("django") is None:
        return False
    for argument in config.args:
        path = Path(config.invocation_params.dir, argument.partition("::")[0]).resolve()
        if path == TESTS or path in TESTS.parents:
            return True
        if TESTS in path.parents and path.relative_to(TESTS).parts[0] not in WITHOUT_DJANGO:
            return True
    return False


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    hands_out = bool(config.getoption("numprocesses", None)) and not hasattr(config, "workerinput")
    if hands_out or not _needs_django(config):
        return  # with `-n 2`, each worker has services of its own, and the one that hands out tests has none
    folder = config.stash[folder_key] = Path(tempfile.mkdtemp(prefix="framefleet-tests-"))
    var = folder / "var"
    var.mkdir()
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    os.environ["FRAMEFLEET_SECRET_KEY"] = "test"
    os.environ["FRAMEFLEET_VAR"] = str(var)
    if not os.environ.get("DATABASE_URL"):
        os.environ["DATABASE_URL"] = _embedded_database(config, folder)
    # pytest-django calls django.setup() and guards the database once the settings are loaded.
    from django.conf import settings

    assert settings.SECRET_KEY == "test"


def _embedded_database(config: pytest.Config, folder: Path) -> str:
    """The URL at which the run's PostgreSQL will answer when a test asks for it."""
    from standalone.postgres import Postgres
    from standalone.processes import ServiceError
    from tests.services import FAST

    try:
        server = config.stash[server_key] = Postgres(folder / "postgres", settings=FAST)
    except ServiceError as error:
        if os.environ.get("CI"):
            raise pytest.UsageError(str(error)) from error
        config.stash[missing_key] = str(error)
        return "postgresql://missing:missing@127.0.0.1:1/missing"
    return server.url


def pytest_unconfigure(config: pytest.Config) -> None:
    if server := config.stash.get(server_key, None):
        server.stop()
    if folder := config.stash.get(folder_key, None):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes seconds runs last, so that a plain mistake shows at once; the longest of it first, so that no worker
    waits for it in the end."""
    items.sort(
        key=lambda item: (item.get_closest_marker("slow") is not None, not item.nodeid.startswith("tests/end_to_end/"))
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A test goes to whichever worker is free, but all that share the world end to end to one: it takes half a minute
    of two cores to come up. (xdist's own groups are lost on this pytest, which keeps a test's id twice.)"""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return "world" if nodeid.startswith(IN_ONE_WORLD) else nodeid

    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def in_the_usual_language(request: pytest.FixtureRequest) -> "Iterator[None]":
    """A page drawn in Chinese leaves its thread in Chinese; the test after it begins like any other."""
    yield
    if folder_key in request.config.stash:
        from django.utils.translation import deactivate

        deactivate()


@pytest.fixture(scope="session")
def database_url(request: pytest.FixtureRequest) -> str:
    """Where the run's PostgreSQL answers, started now if need be: for tests that start processes of their own."""
    if reason := request.config.stash.get(missing_key, None):
        pytest.skip(reason)
    server = request.config.stash.get(server_key, None)
    if server is not None and server.pid is None:
        server.start()
    return os.environ["DATABASE_URL"]


@pytest.fixture(scope="session")
def django_db_modify_db_settings(database_url: str) -> None:
    """pytest-django asks for this before it makes the test database."""
