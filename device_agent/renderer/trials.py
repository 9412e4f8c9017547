"""The trial port over the store and the renderer: a release is measured in a process of its own."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from device_agent.installer.slots import Installed, Slot
from device_agent.ports import TrialReport, wall_clock_ms
from device_agent.renderer.handle import Renderer
from device_agent.renderer.messages import Measure
from device_agent.renderer.process import RendererDied, RendererRefused
from device_agent.storage.store import FileStore
from device_agent.telemetry import health, trial_report
from protocol.errors import Reason, Refused
from protocol.messages import AnyEvent

_REASONS = {
    "base_model": Reason.WRONG_BASE_MODEL,
    "release": Reason.BAD_ARTIFACT,
    "input": Reason.BAD_ARTIFACT,
    "frame": Reason.INTERNAL,
    "disk": Reason.DISK_FULL,
}


class StoreTrial:
    """``quiet``, a lock, is held meanwhile: no film plays into the measurement. ``record`` takes faults as events,
    ``environment`` is ``Boot.environment_of``: golden clips are played by the agent that the release would run on."""

    def __init__(
        self,
        store: FileStore,
        renderer: Renderer,
        quiet: AbstractContextManager[object] | None = None,
        record: Callable[[AnyEvent], None] = lambda event: None,
        now_ms: Callable[[], int] = wall_clock_ms,
        environment: Callable[[Installed | None, FileStore], Mapping[str, str] | None] = lambda agent, store: None,
    ) -> None:
        self._store = store
        self._renderer = renderer
        self._quiet = quiet if quiet is not None else nullcontext()
        self._record = record
        self._now_ms = now_ms
        self._environment = environment

    def measure(self, slot: Slot) -> TrialReport:
        """Raises Refused when the release cannot even be tried, RendererDied when the agent stops meanwhile."""
        adapter = slot.adapter
        request = Measure(
            bundle=str(self._store.path(slot.bundle.sha256)),
            adapter=None if adapter is None else str(self._store.path(adapter.sha256)),
        )

        def faulted(detail: str) -> None:
            self._record(health("npu_fault", detail, at=self._now_ms(), release=slot.release))

        with self._quiet, self._store.pinned(*slot.files()):
            try:
                environment = self._environment(slot.agent, self._store)
                measured = self._renderer.measure(request, faulted, environment)
            except RendererRefused as refused:
                raise Refused(_REASONS[refused.blame], str(refused)) from refused
            except RendererDied as died:
                if died.kind == "closed":
                    raise
                return trial_report((), {}, [str(died)])
        return trial_report(measured.lip_errors, measured.figures, measured.failures)
