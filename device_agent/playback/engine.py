"""The engine: a bundle, an adapter, a photo and a voice in, frames out.

It stays warm between playbacks: the graphs, the portraits shown last and the three frame buffers are kept, and another
adapter over the same bundle is swapped in without loading anything else. Everything that can be wrong with bundle,
adapter, photo or a recorded voice is found before the first frame is drawn. Run it in a process of its own: an agent
should not hold a few hundred MB, nor die with a decoder.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_agent import adapters
from device_agent.adapters import AdapterError
from device_agent.bundle import Bundle, BundleError
from device_agent.bundle.manifest import RuntimeName, StageName
from device_agent.pipeline.acting import Acting
from device_agent.pipeline.context import loudness_of
from device_agent.pipeline.face import NoFace
from device_agent.pipeline.features import SAMPLE_RATE
from device_agent.pipeline.photo import PhotoError
from device_agent.pipeline.render import PortraitRenderer
from device_agent.pipeline.repair import Repairer
from device_agent.pipeline.ring import AudioRing, pour
from device_agent.pipeline.script import Moment, live, whole
from device_agent.pipeline.stages import StageGraph
from device_agent.pipeline.voice import Voice, VoiceError, read_voice
from device_agent.playback.handover import Canvases, Handover
from device_agent.playback.portraits import Photo, Portraits, show_to, stamp_of
from device_agent.playback.sinks import FrameSink
from device_agent.playback.video import VideoError
from device_agent.runtime.base import RuntimeFailure
from device_agent.runtime.choice import RuntimeChoice, runtimes

# What a caller shows to people as it stands: each message is one sentence that says what to do.
REFUSALS = (AdapterError, BundleError, NoFace, PhotoError, RuntimeFailure, VideoError, VoiceError)

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PlaybackResult:
    """What one playback took.

    `first_frame_ms`: from the call to the moment when the sink had taken the first frame. `fps`: frames per second
    from then on; a live voice sets 25. `seconds`: the whole call. `peak_rss_mb`: the process's largest resident memory.
    `context`: what photo and voice are like, in words of `protocol.messages.CONTEXTS`; a live voice has no loudness.
    """

    first_frame_ms: float
    fps: float
    seconds: float
    frames: int
    peak_rss_mb: float
    context: dict[str, str]


class Engine:
    """Plays one film at a time; `use` first. Not for several threads at once."""

    def __init__(
        self,
        runtime_choice: RuntimeChoice = "auto",
        core_mask: int = 0,
        on_fault: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """`on_fault` gets one sentence when the NPU fails and the CPU takes over."""
        self._runtimes = runtimes(runtime_choice, core_mask, on_fault)
        self._canvases = Canvases()
        self._bundle: Bundle | None = None
        self._bundle_stamp: object = None
        self._graph: StageGraph | None = None
        self._portraits: Portraits | None = None
        self._frames = 0

    def use(self, bundle: Path, adapter: Path | None) -> None:
        """Play with this release from now on; loads only what changed.

        Raises BundleError, AdapterError, RuntimeFailure. After that nothing is loaded or, when the adapter was at
        fault, the bundle plays with the adapter it had.
        """
        stamp = stamp_of(bundle)
        if stamp is None or stamp != self._bundle_stamp:
            self.close()
            opened = Bundle.open(bundle)
            graph = StageGraph(opened, self._runtimes)
            try:
                graph.load()
            except BaseException:
                graph.close()
                opened.close()
                raise
            self._bundle, self._graph, self._bundle_stamp = opened, graph, stamp
            repair = None if graph.mouth_shape is None else Repairer(graph)
            self._portraits = Portraits(opened, repair)
        if self._bundle is None or self._graph is None:
            raise RuntimeFailure("The engine has no bundle.")
        if adapter is None:
            self._graph.set_adapter(None)
        else:
            signature = self._bundle.manifest.adapter
            self._graph.set_adapter(adapters.load(adapter, self._bundle.sha256, signature))

    def play(
        self,
        photo: Photo,
        voice: Path | Voice | Iterator[Samples],
        sink: FrameSink,
        beat: Callable[[int], None] = lambda frames: None,
    ) -> PlaybackResult:
        """Show `photo` speaking `voice`, as fast as `sink` takes frames.

        Raises one of `REFUSALS`; the sink has discarded the film then, and after a failure of the bundle or its graphs
        the next `use` loads everything again. `photo` and `voice` are files or what they hold;
        an iterator is a live voice, mono float32 samples at 16 kHz in -1..1 as they are recorded. `beat` gets the count
        of frames so far, at least once a second while work goes on.
        """
        started = time.perf_counter()
        if self._graph is None or self._portraits is None:
            raise RuntimeFailure("The engine has no release yet: give it a bundle first.")
        graph = self._graph
        self._frames = 0
        beat(0)
        try:
            return self._film(graph, self._portraits, photo, voice, sink, beat, started)
        except (BundleError, RuntimeFailure):
            self._bundle_stamp = None  # a stage may have been given back and not been replaced
            raise

    @property
    def running(self) -> dict[StageName, RuntimeName]:
        """What each loaded stage runs on now."""
        return {} if self._graph is None else self._graph.running

    def close(self) -> None:
        """Give back what the bundle takes; `use` may follow."""
        graph, bundle = self._graph, self._bundle
        self._graph = self._bundle = self._portraits = self._bundle_stamp = None
        self._canvases.forget()
        if graph is not None:
            graph.close()
        if bundle is not None:
            bundle.close()

    def _film(
        self,
        graph: StageGraph,
        portraits: Portraits,
        photo: Photo,
        voice: Path | Voice | Iterator[Samples],
        sink: FrameSink,
        beat: Callable[[int], None],
        started: float,
    ) -> PlaybackResult:
        if isinstance(voice, Path):
            voice = read_voice(voice)
            beat(0)
        portrait = portraits.get(photo, lambda: beat(0))
        portrait.start()
        show_to(graph, portrait)
        beat(0)
        context = {"pose": portrait.facing}
        if isinstance(voice, Voice):
            context["loudness"] = loudness_of(voice.samples)
            return self._show(portrait, whole(graph, voice), voice.rate, sink, beat, started, context)
        ring = AudioRing(live=True)
        pour(voice, ring)
        try:
            moments = live(graph, ring, lambda: beat(self._frames))
            return self._show(portrait, moments, SAMPLE_RATE, sink, beat, started, context)
        finally:
            ring.close()

    def _show(
        self,
        portrait: PortraitRenderer,
        moments: Iterator[Moment],
        rate: int,
        sink: FrameSink,
        beat: Callable[[int], None],
        started: float,
        context: dict[str, str],
    ) -> PlaybackResult:
        acting = Acting()
        moment = next(moments, None)  # what is wrong with a recorded voice shows here, before anything is written
        out = Handover(self._canvases, sink, rate)
        try:
            while moment is not None:
                canvas = out.blank()
                portrait.draw(canvas, acting.pose(moment.motion, moment.speaking))
                out.show(canvas, moment.sound)
                self._frames += 1
                beat(self._frames)
                moment = next(moments, None)
            out.finish()
        except BaseException:
            out.abandon()
            raise
        ended = time.perf_counter()
        first = out.first_written or ended
        return PlaybackResult(
            first_frame_ms=round((first - started) * 1000, 1),
            fps=round(self._frames / max(ended - first, 1e-9), 1),
            seconds=round(ended - started, 3),
            frames=self._frames,
            peak_rss_mb=round(peak_rss_mb(), 1),
            context=context,
        )


def peak_rss_mb() -> float:
    """The largest resident memory of this process so far, in MB."""
    try:
        # Unlike getrusage's figure, this one does not remember the parent's memory from before exec.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
