"""The trial of a release: the bundle's golden clips on this frame's own runtime, before anybody sees it."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from device_agent.adapters import AdapterError, WrongBaseModel, load
from device_agent.bundle import Bundle, BundleError
from device_agent.golden import GoldenResult, evaluate
from device_agent.installer.slots import Slot
from device_agent.ports import TrialReport
from device_agent.runtime import OrtRuntime, RuntimeFactory, RuntimeFailure
from device_agent.store import FileStore
from device_agent.telemetry import sentence
from protocol.errors import Reason, Refused
from protocol.messages import Failure, LipError

Source = Path | bytes


def run_trial(bundle: Source, adapter: Source | None, runtimes: RuntimeFactory = OrtRuntime) -> TrialReport:
    """Measure the golden clips with this bundle and adapter (about a second on one core).

    Limits that were missed are the report's ``failure``. Raises Refused: WRONG_BASE_MODEL, BAD_ARTIFACT.
    """
    try:
        with Bundle.open(bundle) as opened:
            delta = None if adapter is None else load(adapter, opened.sha256, opened.manifest.adapter)
            result = evaluate(opened, delta, runtimes)
    except WrongBaseModel as error:
        raise Refused(Reason.WRONG_BASE_MODEL, str(error)) from error
    except (AdapterError, BundleError, RuntimeFailure) as error:
        raise Refused(Reason.BAD_ARTIFACT, str(error)) from error
    return report_of(result)


def report_of(result: GoldenResult) -> TrialReport:
    """What was measured, as it travels."""
    lip_errors = tuple(
        LipError(
            segment=part.segment,
            lip_mm=round(part.lip_mm, 4),
            mean_pose_mm=round(part.mean_pose_mm, 4),
            limit_mm=part.limit_mm,
        )
        for part in result.segments
    )
    failure = None
    if not result.passed:
        failure = Failure(reason=Reason.TRIAL_FAILED, detail=sentence(" ".join(result.failures)))
    return TrialReport(lip_errors, failure)


class StoreTrial:
    """The trial port over a FileStore. ``quiet``, a lock, is held meanwhile: no film plays into the measurement."""

    def __init__(
        self,
        store: FileStore,
        quiet: AbstractContextManager[object] | None = None,
        runtimes: RuntimeFactory = OrtRuntime,
    ) -> None:
        self._store = store
        self._quiet = quiet if quiet is not None else nullcontext()
        self._runtimes = runtimes

    def measure(self, slot: Slot) -> TrialReport:
        adapter = slot.adapter
        with self._quiet, self._store.pinned(*slot.files()):
            return run_trial(
                self._store.path(slot.bundle.sha256),
                None if adapter is None else self._store.path(adapter.sha256),
                self._runtimes,
            )
