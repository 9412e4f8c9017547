"""What the renderer puts on itself before it loads anything: it dies with the agent, and first when memory is short."""

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = 800
"""Of 1000: the kernel ends the renderer long before the agent."""

ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
"""Each further thread of OpenBLAS would reserve some 180 MB of address space for products of small matrices."""


def leave_the_end_to_the_agent() -> None:
    """Ctrl-C and a service manager's stop reach the renderer as well as the agent: that must not look like a crash."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def die_with(parent: int) -> None:
    """End with SIGKILL when the agent's thread that started this process ends. ``parent`` is the agent's process id.

    The kernel watches the thread, not the process: the agent starts renderers from a thread that lives as long as it.
    """
    if sys.platform != "linux":
        return  # there the end of standard input has to do
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        os._exit(1)  # it died before it was watched


def take_at_most(memory_mb: int) -> None:
    """Bound the private writable memory, in MB (10^6 bytes); beyond it allocations fail.

    RLIMIT_DATA counts what may be written to and not what is merely mapped, so it follows resident memory: films that
    leave 220 MB resident need 200 MB of it, and 320 MB with H.264, where RLIMIT_AS would have to allow 800 MB.
    """
    wanted = memory_mb * 1_000_000
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    # Both: whatever runs in here could lift a soft limit again.
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file of a film would be a household's face on the disk


def private_mb() -> float:
    """What ``take_at_most`` bounds, now, in MB; 0 where the kernel does not say."""
    with suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def be_first_to_go() -> None:
    """Ask the kernel to end this process before others when memory is short. Where it cannot be asked, nothing is."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(_OOM_SCORE))
