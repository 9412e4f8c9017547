"""Cuts the power at every change of the agent's disk: ``python -m benchmarks.powercut [--points 10000]``
(``make bench-powercut``).

The agent's own core, storage, installer and trust run over a disk in memory that keeps apart what was written and what
is durable (``tests/device_agent/powercut``). A few stories from birth on are told; before each write, sync, rename,
deletion, new file and new folder in them the power goes, in several ways: nothing that was pending survives, all of it,
only names, or what chance leaves (torn files, zeros, garbage). Each time a new process starts over what is left and is
driven on until it has carried out what is desired and one release more. Then the same with a second cut while it
recovers, with a kill before the cut, and with a disk that fails (EIO, ENOSPC) at each change.

A cut point is one disk that one cut may leave, driven on to its end; disks that are alike count once per cut. Wrong is:
nothing or a damaged file plays (bricked), the journal says something else than what was saved (journal_wrong), a number
of the outbox means two events (events_wrong), the frame never does what is desired (stuck), or an error nobody expected
(crashed). The exit status is 1 if there is any. The last line is ``BENCH {json}``.
"""

import argparse
import errno
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count

from tests.device_agent.powercut.cuts import Tally, cut_at, fail_at, kill_at, tell
from tests.device_agent.powercut.story import STORIES

POINTS = 10_000
BATCH = 8
"""Moments that one worker does at a time."""

Task = tuple[str, int, int]
"""A story, the first of its moments to do, and which round of draws it is."""


def cuts(task: Task) -> Tally:
    """Cut ``BATCH`` moments of a story, every third of them twice; kill at every fourth, and fail at each."""
    logging.disable(logging.CRITICAL)
    story, first, turn = task
    tally = Tally()
    moments = tell(STORIES[story])
    for number in range(first, min(first + BATCH, len(moments))):
        seed = turn * 1_000_003 + number
        cut_at(moments[number], seed, 3 if turn == 0 else 8, tally, twice=number % 3 == turn % 3)
        if number % 4 == turn % 4:
            kill_at(moments[number], seed, tally)
        if turn == 0 and number + 1 < len(moments):
            fail_at(STORIES[story], number + 1, errno.EIO, 1, seed, tally)
            fail_at(STORIES[story], number + 1, errno.ENOSPC, 5, seed, tally)
    return tally


def tasks() -> Iterator[Task]:
    """All moments of all stories, then again with other draws, without an end."""
    lengths = {name: len(tell(story)) for name, story in STORIES.items()}
    for turn in count():
        for name, length in lengths.items():
            yield from ((name, first, turn) for first in range(0, length, BATCH))


def run(points: int, workers: int) -> Tally:
    """All moments of all stories once, and on until there were ``points`` cut points."""
    total, waiting, done_once = Tally(), tasks(), False
    with ProcessPoolExecutor(workers) as pool:
        while not done_once or total.cut_points + total.second_cuts + total.killed_first < points:
            batch = [next(waiting) for _ in range(workers * 4)]
            done_once = batch[-1][2] > 0
            for tally in pool.map(cuts, batch):
                total.add(tally)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description="Cut the power at every change of the agent's disk.")
    parser.add_argument("--points", type=int, default=POINTS, help="cut points at least")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    started = time.monotonic()
    for name, story in STORIES.items():
        print(f"{name}: {len(tell(story)) - 1} changes of the disk")
    total = run(arguments.points, arguments.workers)
    print("Cut before: " + ", ".join(f"{what} {number}" for what, number in sorted(total.operations.items())))
    for line in total.told:
        print(f"WRONG {line}")
    figures = {
        "cut_points": total.cut_points + total.second_cuts + total.killed_first,
        "bricked": total.wrong["bricked"],
        "journal_wrong": total.wrong["journal"],
        "events_wrong": total.wrong["events"],
        "stuck": total.wrong["stuck"],
        "crashed": total.wrong["crashed"],
        "second_cuts": total.second_cuts,
        "killed_first": total.killed_first,
        "io_errors": total.io_errors,
        "seconds": round(time.monotonic() - started, 1),
    }
    print(f"BENCH {json.dumps(figures)}")
    return 1 if sum(total.wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
