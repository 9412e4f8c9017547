"""Who waits for whom: PostgreSQL's advisory locks, held until the transaction ends."""

from enum import IntEnum

from django.db import connection


class Lock(IntEnum):
    """Writers that must go one after the other. The numbers are this project's own (0x6674 is "ft")."""

    REPOSITORY = 0x6674_0001
    """New TUF documents: versions have no gaps."""
    DIRECTOR = 0x6674_0002
    """New DesiredStates: a frame's version only grows."""
    ROLLOUTS = 0x6674_0003
    """New rollouts: two must not begin on the same frames."""
    EVIDENCE = 0x6674_0004
    """Looks at one rollout: a second worker would find the same."""


def hold(lock: Lock) -> None:
    """Wait for ``lock`` and hold it until the surrounding transaction ends."""
    if not connection.in_atomic_block:
        raise RuntimeError("An advisory lock needs a transaction to end with.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [int(lock)])


def try_hold(lock: Lock, subject: int) -> bool:
    """Hold ``lock`` for one subject (a row's id) until the surrounding transaction ends; False, at once, when somebody
    else does."""
    if not connection.in_atomic_block:
        raise RuntimeError("An advisory lock needs a transaction to end with.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [int(lock), subject % 2**31])
        (held,) = cursor.fetchone()
    return bool(held)
