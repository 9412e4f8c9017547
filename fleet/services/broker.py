"""Telling the broker's side that somebody else may connect than before."""

from django.db import connection

CHANNEL = "broker_users"
"""PostgreSQL's NOTIFY: whoever writes the broker's users listens here, and looks at the revision at its start."""

_BUMP = """
    INSERT INTO fleet_brokerusers (id, revision, changed_at) VALUES (1, 1, now())
    ON CONFLICT (id) DO UPDATE SET revision = fleet_brokerusers.revision + 1, changed_at = now()
"""


def users_changed() -> None:
    """Call it last in the transaction that changes certificates or frames: the row is locked until its end."""
    with connection.cursor() as cursor:
        cursor.execute(_BUMP)
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
