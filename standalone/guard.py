"""The supervisor's last will: when its pipe closes, end every process group it had told us about.

Run as a script with ``-I -S`` and a pipe as standard input; lines are ``+PID SIGNAL`` and ``-PID``. The kernel's death
signal reaches direct children only and only on Linux; this also reaches their children, and works wherever there are
pipes.
"""

import os
import signal
import sys
import time
from contextlib import suppress

GRACE_S = 3.0  # what PostgreSQL and Celery get to end in order before they are killed


def read_line(line: str, groups: dict[int, int]) -> None:
    """Apply a line to the table of process groups and their stop signals; an odd one is ignored."""
    words = line[1:].split()
    with suppress(ValueError, IndexError):
        if line.startswith("+"):
            groups[int(words[0])] = int(words[1])
        elif line.startswith("-"):
            groups.pop(int(words[0]), None)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end(groups: dict[int, int], grace: float = GRACE_S) -> None:
    """Let the groups stop, then kill what is left of them."""
    if sys.platform != "linux":  # there the kernel has told the leaders already
        for group, number in groups.items():
            with suppress(OSError):
                os.kill(group, number)
    deadline = time.monotonic() + grace
    left = set(groups)
    while left and time.monotonic() < deadline:
        left = {group for group in left if alive(group)}
        time.sleep(0.02)
    for group in left:
        with suppress(OSError):
            os.killpg(group, signal.SIGKILL)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, int] = {}
    for line in sys.stdin:
        read_line(line, groups)
    end(groups)


if __name__ == "__main__":
    main()
