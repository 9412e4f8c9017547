"""The real renderer: warm between films, bounded, and mortal without harm."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from device_agent.renderer import Measure, Play, Renderer, RendererDied, RendererOptions, RendererRefused
from device_agent.renderer.messages import Answer, Measured, line, read_answer
from device_agent.renderer.worker import Worker
from tests.device_agent.display import Display, children
from tests.device_agent.live import until
from tests.device_agent.renderer.test_renderer import gone
from tests.device_agent.test_power import device
from tests.reference_model.artifacts import ADAPTER, ASSETS, BUNDLE, with_manifest

PORTRAIT = str(ASSETS / "portrait.png")
VOICE = str(ASSETS / "voice-zh.wav")


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    renderer = Renderer(RendererOptions(beat_s=20.0))
    yield renderer
    renderer.close()


def film(out: Path | str = "/dev/null", sink: str = "none", **changes: str | None) -> Play:
    asked = {"bundle": str(BUNDLE), "adapter": None, "photo": PORTRAIT, "voice": VOICE, "out": str(out), "sink": sink}
    return msgspec.convert(asked | changes, Play)


@pytest.mark.slow
def test_the_second_film_is_warm_and_another_adapter_needs_no_other_renderer(
    renderer: Renderer, tmp_path: Path
) -> None:
    cold = renderer.play(film())
    pid = renderer.warm
    warm = renderer.play(film(adapter=str(ADAPTER)))
    with pytest.raises(RendererRefused) as voice:
        renderer.play(film(voice=PORTRAIT))
    with pytest.raises(RendererRefused) as release:
        renderer.play(film(adapter=PORTRAIT))
    with pytest.raises(RendererRefused) as disk:
        renderer.play(film(out=tmp_path / "nowhere" / "film.mp4", sink="mp4"))
    assert [caught.value.blame for caught in (voice, release, disk)] == ["input", "release", "frame"]
    again = renderer.play(film(tmp_path / "film.mp4", "mp4"))
    assert renderer.warm == pid
    assert warm.first_frame_ms < cold.first_frame_ms / 2
    assert warm.frames == again.frames == cold.frames > 100
    assert (tmp_path / "film.mp4").stat().st_size > 10_000
    assert cold.power.estimated, "there is no meter here"
    assert cold.power.npu_w == 0.0
    assert 100 < again.memory_mb < 400


@pytest.mark.slow
@pytest.mark.parametrize(("number", "kind"), [(signal.SIGKILL, "crash"), (signal.SIGSTOP, "hang")])
def test_a_renderer_killed_or_stopped_in_mid_film_costs_that_film(
    tmp_path: Path, number: signal.Signals, kind: str
) -> None:
    renderer = Renderer(RendererOptions(beat_s=2.0))
    display = Display(tmp_path / "screen.i420", frames=10)
    deaths: list[RendererDied] = []

    def play() -> None:
        try:
            renderer.play(film(display.path, "raw"))
        except RendererDied as died:
            deaths.append(died)

    try:
        playing = threading.Thread(target=play)
        playing.start()
        assert display.shown.wait(20)
        (process,) = renderer._living
        # What a service manager or Ctrl-C sends to everybody is for the agent to obey.
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.2)
        assert process.alive
        os.kill(process.pid, number)
        playing.join(15)
        (died,) = deaths
        assert died.kind == kind
        assert gone(process.pid)
        assert renderer.play(film()).frames > 100
    finally:
        display.close()
        renderer.close()


@pytest.mark.slow
def test_a_renderer_that_needs_too_much_memory_dies_alone() -> None:
    renderer = Renderer(RendererOptions(memory_mb=180))
    try:
        with pytest.raises(RendererDied) as caught:
            renderer.play(film())
        # Where Python asks for it, that is a MemoryError; libraries find their own words for it, or just end.
        assert caught.value.kind in ("memory", "crash")
        assert renderer.warm is None
    finally:
        renderer.close()


_AGENT = """
import sys
from device_agent.renderer import Play, Renderer
import msgspec
Renderer().play(msgspec.json.decode(sys.argv[1], type=Play))
"""


@pytest.mark.slow
def test_the_renderer_dies_with_the_agent(tmp_path: Path) -> None:
    display = Display(tmp_path / "screen.i420", frames=1)
    asked = msgspec.json.encode(film(display.path, "raw")).decode()
    agent = subprocess.Popen([sys.executable, "-c", _AGENT, asked])
    try:
        assert display.shown.wait(20)
        (pid,) = children(agent.pid)
        assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= 800, "the kernel takes it before the agent"
        agent.kill()
        agent.wait()
        until(lambda: gone(pid), 5)
    finally:
        agent.kill()
        agent.wait()
        display.close()


def ask(worker: Worker, answers: int, request: Measure) -> Answer:
    """The last answer of a worker in this process."""
    assert worker.answer(line(request))
    *_, last = os.read(answers, 1 << 20).splitlines()
    return read_answer(last)


@pytest.mark.slow
def test_a_trial_measures_memory_speed_and_metered_power_against_the_bundle_s_limits(tmp_path: Path) -> None:
    device(tmp_path / "hwmon", 0, name="ina226", power1_input=7_500_000)
    strict = tmp_path / "strict.bundle"

    def limit(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["golden"]["limits"] |= {"power_w": 7.0, "energy_j": 1e6, "memory_mb": 20.0, "step_p99_ms": 1e6}

    strict.write_bytes(with_manifest(limit))
    answers, writes = os.pipe()
    for hwmon, missed in (("hwmon", ["memory", "power"]), ("nowhere", ["memory"])):
        worker = Worker(writes, "onnx", 0, tmp_path / hwmon)
        measured = ask(worker, answers, Measure(bundle=str(strict), adapter=None))
        worker.close()
        assert isinstance(measured, Measured)
        assert [word for word in ("memory", "power", "energy") for text in measured.failures if word in text] == missed
        assert all(text.endswith("is allowed.") for text in measured.failures)
        assert measured.figures["power_estimated"] == (hwmon == "nowhere")
        names = {"step_p50_ms", "step_p99_ms", "memory_mb", "fps", "first_frame_ms", "power_w", "energy_j"}
        assert names | {"power_estimated"} == measured.figures.keys()
        assert {part.segment for part in measured.lip_errors} >= {"base", "mandarin"}
    os.close(answers)
    os.close(writes)


@pytest.mark.slow
def test_a_trial_in_a_renderer_of_its_own_passes(renderer: Renderer) -> None:
    measured = renderer.measure(Measure(bundle=str(BUNDLE), adapter=str(ADAPTER)))
    assert measured.failures == ()
    assert renderer.warm is None
    assert measured.figures["memory_mb"] < 400
    with pytest.raises(RendererRefused) as caught:
        renderer.measure(Measure(bundle=PORTRAIT, adapter=None))
    assert caught.value.blame == "release"
