"""Security time: what signatures and expiry dates are compared with. It is always real time, never a simulated one."""

import datetime as dt
from collections.abc import Callable

from protocol.errors import Reason, Refused

Now = Callable[[], dt.datetime | None]
"""The time in UTC; None on a frame that has no clock of its own and was not told the time yet."""


def utc_now() -> dt.datetime:
    """The time of a frame whose clock can be believed."""
    return dt.datetime.now(dt.UTC)


def required(now: Now) -> dt.datetime:
    """The time. Raises Refused(NO_TIME) when it is not known."""
    time = now()
    if time is None:
        raise Refused(
            Reason.NO_TIME, "The frame does not know the time yet, so it installs nothing: let it reach the backend."
        )
    return time
