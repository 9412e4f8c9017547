"""How root gives itself up for a server that refuses to run as root.

Best is a user namespace: the files stay root's. Machines that forbid those (most containers) take an unprivileged user,
which needs one kept right to reach into a checkout that is closed to others (mode 0700).
"""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from standalone.processes import ServiceError, launched


def choose(folder: Path, program: Path) -> str:
    """The first way in which ``program --version`` runs and the parent of ``folder`` can be entered.

    ``folder`` is the server's own and need not exist. Raises ServiceError that names what was tried.
    """
    problems = []
    for way in ways_to_drop(folder, program):
        for probe in ([str(program), "--version"], ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder.parent)]):
            done = subprocess.run(
                launched(probe, drop=way),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=30,
                check=False,
            )
            if done.returncode != 0:
                problems.append(f"{way}: {done.stdout.strip()}")
                break
        else:
            return way
    raise ServiceError(
        f"{program.name} cannot run here as this user ({'; '.join(problems)}): start framefleet as an ordinary user, "
        "or set DATABASE_URL to a PostgreSQL of your own."
    )


def ways_to_drop(folder: Path, program: Path) -> list[str]:
    """How we could run a server in ``folder`` as somebody it accepts, best first.

    An ordinary user has nothing to drop. Root in somebody's checkout goes on as that person, so that the files stay
    theirs. initdb wants a user with a name, which a container's ``--user 12345`` has not: a namespace gives it one.
    """
    nobody = _nobody()
    namespace = f"namespace:{nobody}"
    if os.geteuid() != 0:
        return ["none"] if _group(os.geteuid()) is not None else [namespace, "none"]
    if owner := _owner(folder):  # a cluster that is there needs no initdb, so its owner needs no name
        return [_user(owner), f"{_user(owner)}:reach"]
    people = [_user(uid) for uid in (_owner(folder.parent), _owner(program)) if uid and _group(uid) is not None]
    return [*dict.fromkeys([*people, namespace, _user(nobody)]), f"{_user(nobody)}:reach"]


def _owner(path: Path) -> int:
    """The uid of who owns it; 0 also when it is not there."""
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return 0


def _user(uid: int) -> str:
    group = _group(uid)
    return f"user:{uid}:{uid if group is None else group}"


def _group(uid: int) -> int | None:
    """A user's first group; None when the system does not know the user."""
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return None


def _nobody() -> int:
    """The uid of a user with a name and without rights."""
    names = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0}
    return names.get("nobody", next(iter(names.values()), 65534))


def hand_over(path: Path, way: str) -> None:
    """Give a file, or a folder with all in it, to the user that ``way`` drops to."""
    kind, _, ids = way.partition(":")
    if kind != "user":
        return
    uid, gid = (int(part) for part in ids.split(":")[:2])
    for entry in _tree(path):
        with suppress(FileNotFoundError):
            if entry.lstat().st_uid != uid:
                os.chown(entry, uid, gid, follow_symlinks=False)


def _tree(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        yield from path.rglob("*")
