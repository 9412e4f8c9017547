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
    owner = folder.stat().st_uid if folder.exists() else None
    problems = []
    for way in ways_to_drop(owner):
        script = 'cd "$1" && exec "$2" --version'
        done = subprocess.run(
            launched(["/bin/sh", "-c", script, "sh", str(folder.parent), str(program)], drop=way),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode == 0:
            return way
        problems.append(f"{way}: {done.stdout.strip()}")
    raise ServiceError(
        f"{program.name} cannot run here as this user ({'; '.join(problems)}): start framefleet as an ordinary user, "
        "or set DATABASE_URL to a PostgreSQL of your own."
    )


def ways_to_drop(owner: int | None) -> list[str]:
    """How root could hand the cluster to an unprivileged user, best first; ``owner`` is the folder's uid."""
    if os.geteuid() != 0:
        return ["none"]
    if owner:  # an ordinary user made this cluster: go on as that user
        ids = f"{owner}:{pwd.getpwuid(owner).pw_gid if _known(owner) else owner}"
        return [f"user:{ids}", f"user:{ids}:reach"]
    try:
        nobody = pwd.getpwnam("nobody")
        ids = f"{nobody.pw_uid}:{nobody.pw_gid}"
    except KeyError:
        ids = "65534:65534"
    return ["namespace", f"user:{ids}", f"user:{ids}:reach"]


def _known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


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
