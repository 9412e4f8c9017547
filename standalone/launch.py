"""Become a service: bind this process to its parent's life, drop root if asked, then exec the program.

Run as a script with the interpreter's ``-I -S`` (15 ms), so it uses the standard library only::

    launch.py PARENT_PID SIGNAL DROP PROGRAM [ARGUMENT...]

``SIGNAL`` is what the kernel sends when the parent dies (Linux only; elsewhere ``guard.py`` does it alone).
``DROP`` is ``none``, ``namespace:UID`` (a user namespace in which we are that user), ``user:UID:GID``, or
``user:UID:GID:reach`` (the same, keeping the right to pass closed folders, for a checkout of mode 0700).

It is a script and not a ``preexec_fn`` because Python code between fork and exec can deadlock a threaded parent, and
because the kernel forgets the death signal whenever the user changes: it must be asked for last.
"""

import ctypes
import errno
import os
import sys

EX_CANNOT_DROP = 77  # sysexits' EX_NOPERM: the caller tries the next way

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP = 28, 1 << 2
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWUSER = 0x10000000


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, *values: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _check(_libc().prctl(ctypes.c_int(option), *arguments), f"prctl {option}")


def _enter_namespace(inner: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc().unshare(_CLONE_NEWUSER), "unshare")
    for name, content in (
        ("uid_map", f"{inner} {uid} 1"),
        ("setgroups", "deny"),
        ("gid_map", f"{inner} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)


def _keep_reach() -> None:
    """Hold CAP_DAC_OVERRIDE alone, across exec. To be called after the user has changed."""
    mask = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)  # effective, permitted, inheritable; low word, high word
    _check(_libc().capset(header, data), "capset")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE)


def _drop(how: str) -> None:
    if how == "none":
        return
    kind, *rest = how.split(":")
    if kind == "namespace":
        _enter_namespace(int(rest[0]))
        return
    uid, gid, *reach = rest
    if reach:
        # Capabilities outlive the change of user, and access(2) counts them: PostgreSQL looks for itself with it.
        _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
    if reach:
        _keep_reach()


def main(arguments: list[str]) -> None:
    parent, number, how, program, *rest = arguments
    try:
        _drop(how)
    except OSError as error:
        print(f"cannot drop root by {how}: {error}", file=sys.stderr)
        sys.exit(EX_CANNOT_DROP)
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != int(parent):  # it died before the kernel knew whom to tell
        sys.exit(0)
    try:
        if not os.access(program, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        os.execv(program, [program, *rest])  # noqa: S606 (no shell is the point)
    except OSError as error:
        print(f"cannot run {program}: {error.strerror}", file=sys.stderr)
        sys.exit(126)


if __name__ == "__main__":
    main(sys.argv[1:])
