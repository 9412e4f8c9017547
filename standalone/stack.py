"""The whole backend on one machine: which services there are, in which order, and what has to be made before them.

PostgreSQL, migrations and certificates, broker and who may connect to it, web server, birth endpoint, bridge, Celery
with beat. Everything listens on 127.0.0.1, on free ports, and keeps its state below one folder. Frames are added by
whoever wants some.
"""

import asyncio
import json
import os
import secrets
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from protocol.clock import PeopleClock
from standalone.broker import Broker
from standalone.postgres import Postgres
from standalone.processes import HOST, ServiceError, free_port, port_answers, wait_until
from standalone.service import Service
from standalone.supervisor import Supervisor

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
USER = "ops"
KEPT = "secrets.json"
BIRTHS_AT_ONCE = 200
"""Connections to the birth endpoint; the next one is told to come again."""
LOOK_EVERY_H = 3.0
"""Of people's time, between two looks at the evidence where days pass in seconds."""
PORT_PATIENCE_S = 15.0
TOKEN_NAME = "standalone"  # noqa: S105  the name of a token


@dataclass(frozen=True)
class Stack:
    """One backend below ``var``. ``password`` is the console's, for the user ``ops``."""

    var: Path
    postgres: Postgres
    broker: Broker
    web_port: int
    birth_port: int
    secret_key: str
    password: str
    people_clock: PeopleClock | None = None
    """In a demonstration, the clock that its simulated people live by."""

    @classmethod
    def below(cls, var: Path) -> "Stack":
        """The stack whose state is below ``var``; secrets and ports are made at the first start and kept, so that
        frames find their broker again."""
        var = var.resolve()
        var.mkdir(parents=True, exist_ok=True)
        kept = _kept(var / KEPT)
        return cls(
            var=var,
            postgres=Postgres(var / "postgres", kept["postgres_port"], log=var / "log" / "postgres.log"),
            broker=Broker(var / "broker" / "nats.conf", kept["broker_port"], log=var / "log" / "broker.log"),
            web_port=kept["web_port"],
            birth_port=kept["birth_port"],
            secret_key=kept["secret_key"],
            password=kept["password"],
        )

    @property
    def server_var(self) -> Path:
        """Where the backend keeps artifacts, online keys and the fleet CA."""
        return self.var / "server"

    @property
    def url(self) -> str:
        """The console's address."""
        return f"http://{HOST}:{self.web_port}"

    @property
    def birth_url(self) -> str:
        """Where frames are born and lapsed certificates are renewed; its certificate is the fleet CA's."""
        return f"https://{HOST}:{self.birth_port}"

    @property
    def ca(self) -> Path:
        """The authorities that frames trust."""
        return self.server_var / "ca" / "ca.pem"

    @property
    def users_file(self) -> Path:
        """The broker's users, written by ``manage.py broker_users``."""
        return self.var / "broker" / "users.conf"

    def environment(self) -> dict[str, str]:
        """What the backend's processes find in their environment beside ours."""
        bridge = self.server_var / "tls" / "bridge"
        return {
            "FRAMEFLEET_VAR": str(self.server_var),
            "FRAMEFLEET_SECRET_KEY": self.secret_key,
            "DATABASE_URL": self.postgres.url,
            "MQTT_URL": self.broker.url,
            "FRAMEFLEET_BIRTH_URL": self.birth_url,
            "MQTT_CA": str(self.ca),
            "MQTT_CERT": str(bridge / "cert.pem"),
            "MQTT_KEY": str(bridge / "key.pem"),
            "DJANGO_SUPERUSER_PASSWORD": self.password,
            # The console is opened over plain http on this machine alone; nobody here may claim another address.
            "FRAMEFLEET_HTTP": "1",
            "FORWARDED_ALLOW_IPS": "",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            **self._pace(),
        }

    def _pace(self) -> dict[str, str]:
        """Whatever the caller's environment says, real frames never live by people's clock."""
        clock = self.people_clock
        if clock is None:
            return {"FRAMEFLEET_PEOPLE_CLOCK": ""}
        every_s = clock.day_seconds * LOOK_EVERY_H / 24
        return {"FRAMEFLEET_PEOPLE_CLOCK": str(clock), "FRAMEFLEET_LOOK_EVERY_S": f"{every_s:.3f}"}

    async def manage(self, supervisor: Supervisor, command: str, *arguments: str, timeout: float = 120) -> str:
        """Run ``manage.py command``; what it printed."""
        argv = [PYTHON, str(ROOT / "manage.py"), command, *arguments]
        return await supervisor.run_once(f"manage-{command}", argv, env=self.environment(), cwd=ROOT, timeout=timeout)

    async def start_database(self, supervisor: Supervisor) -> None:
        """PostgreSQL, the tables, the certificates, the online keys and the user ``ops``."""
        await self._ports_are_free()
        await supervisor.start(self.postgres.service())
        await self.manage(supervisor, "migrate", "--verbosity", "0")
        await self.manage(supervisor, "fleet_ca")
        await self.manage(supervisor, "online_keys")
        await self.manage(supervisor, "ensure_operator", "--username", USER)

    async def _ports_are_free(self) -> None:
        """Raises ServiceError when another program listens where one of our services will. What a killed supervisor
        left goes on for some seconds."""
        ports = {"postgres": self.postgres.port, "broker": self.broker.port}
        ports |= {"web": self.web_port, "birth": self.birth_port}
        for name, port in ports.items():
            if not await asyncio.to_thread(wait_until, partial(_is_free, port), PORT_PATIENCE_S):
                raise ServiceError(
                    f"Port {port}, which the {name} of {self.var} has, is used by another program: stop that one, or "
                    f'take "{name}_port" out of {self.var / KEPT} to get a new port.'
                )

    async def start_services(self, supervisor: Supervisor) -> None:
        """Broker, web server, birth endpoint, bridge, Celery. Whoever is enrolled may connect, now and later."""
        await self.write_broker_users(supervisor)
        tls = self.server_var / "tls" / "server"
        self.broker.configure(
            store_dir=self.var / "broker" / "store",
            ca=self.ca,
            cert=tls / "cert.pem",
            key=tls / "key.pem",
            users_file=self.users_file,
        )
        environment = self.environment()
        await supervisor.start(self.broker.service())
        watch = ("--watch", "--out", str(self.users_file), "--pid-file", str(self.broker.pid_file))
        await supervisor.start(
            Service("broker-users", (PYTHON, str(ROOT / "manage.py"), "broker_users", *watch), environment, ROOT)
        )
        await supervisor.start(self._web("web", "config.asgi:application", self.web_port))
        secure = ("--ssl-certfile", str(tls / "cert.pem"), "--ssl-keyfile", str(tls / "key.pem"))
        bounded = ("--limit-concurrency", str(BIRTHS_AT_ONCE))
        await supervisor.start(self._web("birth", "config.birth:application", self.birth_port, *secure, *bounded))
        await supervisor.start(
            Service("bridge", (PYTHON, str(ROOT / "manage.py"), "bridge"), env=environment, cwd=ROOT)
        )
        worker = ("-m", "celery", "-A", "config.celery:app", "worker", "--beat", "--concurrency", "1")
        alone = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")
        await supervisor.start(Service("celery", (PYTHON, *worker, *alone), env=environment, cwd=ROOT))

    def _web(self, name: str, application: str, port: int, *options: str) -> Service:
        uvicorn = ("-m", "uvicorn", application, "--host", HOST, "--port", str(port), *options)
        quiet = ("--no-access-log", "--no-server-header", "--timeout-graceful-shutdown", "3")
        return Service(name, (PYTHON, *uvicorn, *quiet), env=self.environment(), cwd=ROOT, ready=port)

    async def write_broker_users(self, supervisor: Supervisor) -> None:
        """Let exactly the enrolled frames in, from the broker's first moment on."""
        self.users_file.parent.mkdir(parents=True, exist_ok=True)
        await self.manage(supervisor, "broker_users", "--out", str(self.users_file))

    async def api_token(self, supervisor: Supervisor) -> str:
        """A fresh API token of the user ``ops``."""
        return (await self.manage(supervisor, "create_api_token", "--user", USER, "--name", TOKEN_NAME)).strip()


def _is_free(port: int) -> bool:
    return not port_answers(port)


def _kept(path: Path) -> dict[str, Any]:
    """Django's secret, the console's password and the ports; what is missing is made now. Raises ServiceError."""
    made: dict[str, Any] = {
        "secret_key": secrets.token_urlsafe(48),
        "password": secrets.token_urlsafe(9),
        **{f"{service}_port": free_port() for service in ("web", "birth", "broker", "postgres")},
    }
    try:
        found = dict(json.loads(path.read_text()))
    except FileNotFoundError:
        found = {}
    except (ValueError, TypeError):
        raise ServiceError(
            f"{path} is damaged: restore it from a backup, or remove it for a new secret, password and ports."
        ) from None
    if made.keys() - found.keys():
        found = made | found
        # Written aside and renamed: a start that is interrupted here leaves no half file.
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
        with os.fdopen(handle, "w") as file:
            json.dump(found, file)
        os.replace(aside, path)
    return found
