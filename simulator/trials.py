"""Trials of many frames in one process: real golden clips on ONNX Runtime, once for each pair of bundle and adapter.

Frames on walls each run their own; here a thousand frames would measure the same files on the same processor. That
processor has a thousand frames to serve as well, so a trial that fails is repeated: what is wrong with a release fails
every time, what a busy moment made slow does not.
"""

import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor

from device_agent.installer.slots import Slot
from device_agent.ports import TrialReport
from device_agent.trial.run import run_trial
from protocol.errors import Reason, Refused

Measure = Callable[[bytes, bytes | None], TrialReport]
Pair = tuple[str, str | None]
TRIES, PAUSE_S = 5, 1.0
MAX_PAIRS = 256
"""Outcomes that are remembered; the oldest is measured again when it is needed again."""


class TrialProcess:
    """Trials in a process of their own: a trial times the model, and a process that talks for a thousand frames at the
    same time would measure itself. To be closed."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def measure(self, bundle: bytes, delta: bytes | None) -> TrialReport:
        """As ``run_trial``. Raises Refused."""
        outcome = self._pool.submit(_run, bundle, delta).result()
        if isinstance(outcome, TrialReport):
            return outcome
        raise Refused(*outcome)

    def close(self) -> None:
        """End the process; a trial that is under way is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _run(bundle: bytes, delta: bytes | None) -> "TrialReport | tuple[Reason, str]":
    try:
        return run_trial(bundle, delta)
    except Refused as refused:  # which does not travel between processes
        return refused.reason, refused.detail


class SharedTrials:
    """The trial port of all frames; any thread. ``shared`` has the bytes of every artifact by SHA-256."""

    def __init__(self, shared: Mapping[str, bytes], measure: Measure = run_trial, pause_s: float = PAUSE_S) -> None:
        self._shared = shared
        self._measure = measure
        self._pause_s = pause_s
        self._outcomes: dict[Pair, Future[TrialReport]] = {}
        self._lock = threading.Lock()

    def measure(self, slot: Slot) -> TrialReport:
        """What this slot's files measure; waits while another thread is at it. Raises Refused."""
        pair = _pair(slot)
        with self._lock:
            outcome = self._outcomes.get(pair)
            mine = outcome is None
            if outcome is None:
                while len(self._outcomes) >= MAX_PAIRS:
                    del self._outcomes[next(iter(self._outcomes))]
                outcome = self._outcomes[pair] = Future()
        if mine:
            try:
                bundle, adapter = pair
                delta = None if adapter is None else self._shared[adapter]
                outcome.set_result(self._tried(self._shared[bundle], delta))
            except BaseException as error:
                outcome.set_exception(error)
        refusal = outcome.exception()
        if isinstance(refusal, Refused):
            raise Refused(refusal.reason, refusal.detail)  # anew: one object would grow a traceback per frame
        return outcome.result()

    def _tried(self, bundle: bytes, delta: bytes | None) -> TrialReport:
        report = self._measure(bundle, delta)
        for _ in range(TRIES - 1):
            if report.failure is None:
                break
            time.sleep(self._pause_s)
            report = self._measure(bundle, delta)
        return report

    def lip_mm(self, slot: Slot | None, segment: str) -> float | None:
        """The measured lip error of a segment, None while it is not known."""
        outcome = None if slot is None else self._outcomes.get(_pair(slot))
        if outcome is None or not outcome.done() or outcome.exception() is not None:
            return None
        return next((part.lip_mm for part in outcome.result().lip_errors if part.segment == segment), None)


def _pair(slot: Slot) -> Pair:
    return slot.bundle.sha256, None if slot.adapter is None else slot.adapter.sha256
