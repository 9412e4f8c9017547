"""Brings the files of a release that the frame lacks, as its TransferPolicy allows."""

import logging
from collections.abc import Sequence as Items
from contextlib import closing, nullcontext

from device_agent.ports import Ports, SignedTarget
from device_agent.transfer.indexes import StoredIndexes
from device_agent.transfer.meter import DownloadMeter, Progress
from protocol.errors import Refused
from protocol.fetching import Way, fetch_object
from protocol.messages import TransferPolicy
from protocol.sequences import Program, RetryPolicy

log = logging.getLogger(__name__)


def fetch_missing(
    signed: Items[SignedTarget],
    of: Items[SignedTarget],
    keep: frozenset[str],
    ports: Ports,
    policy: TransferPolicy,
    progress: Progress,
    retry: RetryPolicy,
) -> Program[None]:
    """Fetch what of ``signed`` is not in the store, once there is room for all of it; ``keep`` may not go to make
    room. Progress is told of everything that belongs to the release, ``of``. Raises Refused."""
    missing = [target for target in signed if not ports.store.has(target.sha256)]
    if not missing:
        return
    _make_room(missing, keep, ports)
    whole = [target for target in of if not ports.store.has(target.sha256)]
    held = sum(min(ports.store.held(target.sha256), target.length) for target in whole)
    usage = ports.transfer.usage
    meter = DownloadMeter(policy, usage, progress, ports.transfer.local_time)
    try:
        progress.began(sum(target.length for target in whole), held)
        with closing(ports.transfer.ranges(policy.http)) if policy.http is not None else nullcontext() as ranges:
            way = Way(meter=meter, ranges=ranges, indexes=StoredIndexes(ports.store))
            for target in missing:
                sink = ports.store.sink(target.sha256, target.length)
                log.info("Fetching %s (%d bytes)", target.path, target.length)
                moved = yield from fetch_object(target.manifest.index, target.sha256, target.length, sink, retry, way)
                log.info("Fetched %s, %d bytes moved", target.path, moved)
    finally:
        progress.ended()
        usage.save()


def _make_room(missing: Items[SignedTarget], keep: frozenset[str], ports: Ports) -> None:
    try:
        ports.store.room(_needed(missing, ports))
    except Refused:
        # Releases that were given up before their slot was written may be what fills the disk.
        ports.store.collect(keep)
        ports.store.room(_needed(missing, ports))


def _needed(missing: Items[SignedTarget], ports: Ports) -> int:
    return sum(max(0, target.length - ports.store.held(target.sha256)) for target in missing)
