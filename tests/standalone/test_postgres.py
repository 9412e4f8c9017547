"""The embedded PostgreSQL: it keeps what it was given, says what is wrong, and ends with its owner."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from standalone.postgres import Postgres, find_binaries
from standalone.processes import ServiceError
from tests.services import FAST, postgres_server, require
from tests.standalone.processes import all_end, descendants

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One cluster for the module; each test finds it running."""
    require(find_binaries)
    server = Postgres(tmp_path_factory.mktemp("postgres") / "data", settings=FAST)
    server.start()
    yield server
    server.stop()


def _rows(server: Postgres) -> int:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def _keep(server: Postgres, count: int) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        connection.execute("TRUNCATE kept")
        connection.execute("INSERT INTO kept SELECT generate_series(1, %s)", (count,))


def test_a_fresh_server_answers_at_its_url(tmp_path: Path) -> None:
    with postgres_server(tmp_path) as url, psycopg.connect(url) as connection:
        row = connection.execute("SELECT current_database(), current_setting('server_encoding')").fetchone()
    assert row == ("framefleet", "UTF8")


def test_it_keeps_its_rows_over_stop_and_start(cluster: Postgres) -> None:
    _keep(cluster, 7)
    cluster.stop()
    cluster.start()
    assert _rows(cluster) == 7


def test_it_keeps_committed_rows_over_kill_9(cluster: Postgres) -> None:
    _keep(cluster, 11)
    cluster.kill9()
    assert (cluster.data_dir / "postmaster.pid").exists()
    cluster.start()
    assert _rows(cluster) == 11


def test_a_pid_file_that_names_another_program_does_not_stop_it(cluster: Postgres) -> None:
    cluster.stop()
    pid_file = cluster.data_dir / "postmaster.pid"
    pid_file.write_text(f"{os.getppid()}\n{cluster.data_dir}\n")
    pid_file.chmod(0o600)
    cluster.start()
    assert cluster.is_ready()


def test_a_second_server_on_the_same_folder_is_refused(cluster: Postgres) -> None:
    second = Postgres(cluster.data_dir)
    with pytest.raises(ServiceError, match=f"already runs on .* as process {cluster.pid}: stop that one first"):
        second.start()
    assert cluster.is_ready()


def test_it_listens_on_the_loopback_address_only(cluster: Postgres) -> None:
    with psycopg.connect(cluster.url) as connection:
        row = connection.execute(
            "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories')"
        ).fetchone()
    assert row == ("127.0.0.1", "")


def test_it_asks_for_the_password_that_only_its_owner_can_read(cluster: Postgres) -> None:
    password_file = cluster.data_dir.with_name("data.password")
    assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
    wrong = cluster.url.replace(password_file.read_text().strip(), "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_a_cut_in_the_middle_of_the_first_start_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    require(find_binaries)
    half = tmp_path / "data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    (tmp_path / "data.password").write_text("")
    server = Postgres(tmp_path / "data", settings=FAST)
    try:
        server.start()
        assert server.is_ready()
    finally:
        server.stop()


def test_a_cluster_of_another_major_version_is_left_alone(tmp_path: Path) -> None:
    require(find_binaries)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(ServiceError, match="holds a PostgreSQL 15 cluster and this is PostgreSQL 18: dump and restore"):
        Postgres(tmp_path / "data").prepare()


def test_a_lost_password_file_is_said(tmp_path: Path) -> None:
    require(find_binaries)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("18\n")
    with pytest.raises(ServiceError, match=r"password file .*data\.password is missing: put it back"):
        Postgres(tmp_path / "data").prepare()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    require(find_binaries)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "holiday.jpg").write_text("x")
    with pytest.raises(ServiceError, match="is not empty and holds no PostgreSQL cluster"):
        Postgres(tmp_path / "data").prepare()
    assert (tmp_path / "data" / "holiday.jpg").exists()


def test_the_reason_it_does_not_start_is_shown(cluster: Postgres, tmp_path: Path) -> None:
    other = Postgres(tmp_path / "data", cluster.port, settings=FAST)
    with pytest.raises(ServiceError, match="Address already in use"):
        other.start()


@pytest.mark.skipif(
    sys.platform != "linux", reason="the death signal is Linux's; elsewhere the supervisor's guard does it"
)
def test_it_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    require(find_binaries)
    code = (
        "import sys, time; from pathlib import Path; from standalone.postgres import Postgres\n"
        "server = Postgres(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    below = descendants(owner.pid)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert pid in below
    assert len(below) > 3  # the server's own helpers too
    assert all_end(below, 10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has anything to drop")
@pytest.mark.parametrize("way", ["namespace:65534", "user:65534:65534:reach"])
def test_root_drops_itself_even_in_a_closed_folder(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require(find_binaries)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    installed = find_binaries().parent
    package = closed / installed.parent.name
    shutil.copytree(installed, package / installed.name, symlinks=True)
    libraries = installed.parent.with_name(
        f"{package.name}.libs"
    )  # where the binaries look for them, beside the package
    shutil.copytree(libraries, closed / libraries.name)
    monkeypatch.setattr("standalone.postgres.find_binaries", lambda: package / installed.name / "bin")
    server = Postgres(closed / "data", settings=FAST, drop=way)
    try:
        try:
            server.start()
        except ServiceError as error:
            if "cannot drop root" in str(error):
                pytest.skip(str(error))
            raise
        effective = Path(f"/proc/{server.pid}/status").read_text()
        if way.startswith("user"):
            assert "Uid:\t65534\t65534\t65534\t65534" in effective
        server.kill9()
        server.start()
        assert server.is_ready()
    finally:
        server.stop()
