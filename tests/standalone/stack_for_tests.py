"""A supervisor with real services, run as a process of its own: ``python -m tests.standalone.stack_for_tests FOLDER``.

PostgreSQL, the broker, and ``tree``: a service with a child that will not stop when asked. ``FOLDER/up`` appears when
all run.
"""

import sys
from pathlib import Path

from standalone.broker import Broker
from standalone.postgres import Postgres
from standalone.processes import ServiceError
from standalone.service import Service, Status
from standalone.supervisor import Supervisor, supervise
from tests.services import FAST, test_authority, user, write_users

STUBBORN = """\
import signal, subprocess, sys, time
if len(sys.argv) > 1:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("child", flush=True)
else:
    subprocess.Popen([sys.executable, __file__, "child"])
time.sleep(120)
"""


def main(folder: Path) -> int:
    authority = test_authority(folder / "ca")
    server = authority.issue("broker", server=True)
    users_file = folder / "users.conf"
    write_users(users_file, [user("bridge", publish=["#"], subscribe=["#"])])
    postgres = Postgres(folder / "postgres", settings=FAST)
    broker = Broker(folder / "nats.conf")
    broker.configure(
        store_dir=folder / "store", ca=authority.ca, cert=server.cert, key=server.key, users_file=users_file
    )
    program = folder / "stubborn.py"
    program.write_text(STUBBORN)

    async def story(supervisor: Supervisor) -> int:
        await supervisor.start(postgres.service())
        await supervisor.start(broker.service())
        log = supervisor.log_dir / "tree.log"
        await supervisor.start(
            Service("tree", (sys.executable, str(program)), ready=lambda: log.exists() and "child" in log.read_text())
        )
        (folder / "up").touch()
        return await supervisor.wait()

    def changed(status: Status) -> None:
        with (folder / "changes").open("a") as file:
            file.write(f"{status.name} {status.state}\n")

    try:
        return supervise(folder / "var", story, changed)
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
