"""A renderer may die, hang, babble or never answer: the agent hears one sentence and goes on."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.renderer import Measure, Renderer, RendererDied, RendererOptions, RendererRefused
from device_agent.renderer import process as process_module
from device_agent.renderer.messages import MAX_LINE, Unreadable, line, read_answer, read_request
from device_agent.renderer.process import MAX_LOGGED
from tests.device_agent.fake_renderer import PLAY, fake_renderer
from tests.device_agent.live import until

Start = Callable[..., Renderer]
GOOD = "for film in films(): beat(); say(PLAYED)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    renderers = []

    def started(body: str, beat_s: float = 20.0, timeout_s: float = 30.0, idle_s: float = 30.0) -> Renderer:
        options = RendererOptions(beat_s=beat_s, timeout_s=timeout_s, idle_s=idle_s)
        renderers.append(Renderer(options, fake_renderer(tmp_path, body)))
        return renderers[-1]

    yield started
    for renderer in renderers:
        renderer.close()


def died(renderer: Renderer) -> RendererDied:
    with pytest.raises(RendererDied) as caught:
        renderer.play(PLAY)
    assert str(caught.value).endswith(".")
    assert renderer.warm is None
    return caught.value


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_one_renderer_draws_film_after_film(start: Start) -> None:
    renderer = start(GOOD)
    assert renderer.warm is None, "it starts when it is needed"
    assert renderer.play(PLAY).frames == 25
    pid = renderer.warm
    renderer.play(PLAY)
    assert renderer.warm == pid


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ("next(films()); beat(3); sys.exit(3)", "crash", "status 3 in mid-film"),
        ("next(films()); beat(3); os.kill(os.getpid(), signal.SIGSEGV)", "crash", "SIGSEGV in mid-film"),
        ("next(films()); beat(3); say(b'{}\\n'); time.sleep(60)", "crash", "cannot be understood"),
        ("next(films()); beat(3); say(b'\\xff\\n'); time.sleep(60)", "crash", "cannot be understood"),
        ("next(films()); beat(3); say(b'[' * 60_000 + b'\\n'); time.sleep(60)", "crash", "cannot be understood"),
        ("next(films()); beat(3)\nwhile True: say(b'x' * 4096)", "crash", "a line without an end"),
        (
            "next(films()); beat(3); say({'type': 'measured', 'lip_errors': [], 'figures': {}, 'failures': []})\n"
            "time.sleep(60)",
            "crash",
            "an answer to another question",
        ),
        (
            "next(films()); beat(3); say({'type': 'broke', 'detail': 'It broke.', 'out_of_memory': False})",
            "crash",
            "It broke",
        ),
        (
            "next(films()); beat(3); say({'type': 'broke', 'detail': 'Too big.', 'out_of_memory': True})",
            "memory",
            "Too big",
        ),
    ],
)
def test_a_renderer_that_ends_badly_costs_its_film_alone(start: Start, body: str, kind: str, says: str) -> None:
    error = died(start(body))
    assert (error.kind, error.frames) == (kind, 3)
    assert says in str(error)


def test_a_renderer_without_a_beat_hangs_and_is_killed(start: Start) -> None:
    renderer = start("next(films()); beat(7); time.sleep(60)", beat_s=0.3)
    pids: list[int | None] = []
    threading.Timer(0.15, lambda: pids.extend(process.pid for process in renderer._living)).start()
    began = time.monotonic()
    error = died(renderer)
    assert (error.kind, error.frames) == ("hang", 7)
    assert "stood still for 0.3 s" in str(error)
    assert time.monotonic() - began < 5
    assert pids
    assert all(pid is not None and gone(pid) for pid in pids)


def test_a_film_that_goes_on_for_ever_is_given_up(start: Start) -> None:
    error = died(start("next(films())\nwhile True: beat(); time.sleep(0.02)", timeout_s=0.5))
    assert error.kind == "hang"
    assert "not ready after 0.5 s" in str(error)


def test_what_libraries_print_neither_breaks_nor_blocks_a_film(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    renderer = start(
        "for film in films():\n"
        "    beat()\n"
        '    for _ in range(5_000): print(\'{"type": "played"}\' * 10)\n'
        "    sys.stdout.flush()\n"
        "    say(PLAYED)"
    )
    assert renderer.play(PLAY).frames == 25
    renderer.close()
    said = [record for record in caplog.records if record.getMessage().startswith("renderer: ")]
    assert len(said) == MAX_LOGGED


def test_a_fault_is_told_and_the_film_goes_on(start: Start) -> None:
    renderer = start("for film in films(): say({'type': 'fault', 'detail': 'The NPU is gone.'}); say(PLAYED)")
    faults: list[str] = []
    renderer.play(PLAY, faults.append)
    assert faults == ["The NPU is gone."]


def test_a_refusal_keeps_the_renderer_warm(start: Start) -> None:
    renderer = start("for film in films(): say({'type': 'refused', 'detail': 'No face.', 'blame': 'input'})")
    for _ in range(2):
        with pytest.raises(RendererRefused, match="No face") as caught:
            renderer.play(PLAY)
        assert caught.value.blame == "input"
    assert renderer.warm is not None


def test_an_idle_renderer_is_ended(start: Start) -> None:
    renderer = start(GOOD, idle_s=0.2)
    renderer.play(PLAY)
    pid = renderer.warm
    assert pid is not None
    until(lambda: renderer.warm is None and gone(pid), 5)
    renderer.play(PLAY)
    assert renderer.warm not in (None, pid)


def test_a_renderer_that_died_while_idle_costs_no_film(start: Start) -> None:
    renderer = start(GOOD)
    renderer.play(PLAY)
    assert renderer.warm is not None
    os.kill(renderer.warm, 9)
    renderer.play(PLAY)
    # It ends in the moment in which it is asked again.
    leaving = start("next(films()); say(PLAYED); next(films()); os._exit(0)")
    leaving.play(PLAY)
    leaving.play(PLAY)


def test_a_trial_has_a_renderer_of_its_own(start: Start) -> None:
    renderer = start(
        "for film in films():\n"
        "    time.sleep(0.1)\n"
        "    say(PLAYED if film['type'] == 'play' else\n"
        "        {'type': 'measured', 'lip_errors': [], 'figures': {'pid': os.getpid()}, 'failures': []})"
    )
    renderer.play(PLAY)
    warm = renderer.warm
    assert warm is not None
    pids = [int(renderer.measure(Measure(bundle="/b", adapter=None)).figures["pid"]) for _ in range(2)]
    assert len({warm, *pids}) == 3
    assert all(gone(pid) for pid in (warm, *pids)), "one model at a time"
    assert renderer.play(PLAY).frames == 25


def test_ending_the_agent_ends_the_film_and_blames_nobody(start: Start) -> None:
    renderer = start("next(films()); beat(); time.sleep(60)")
    threading.Timer(0.3, renderer.close).start()
    assert died(renderer).kind == "closed"
    assert died(renderer).kind == "closed", "and no film begins after that"


def test_a_renderer_outlives_the_thread_that_asked_first(tmp_path: Path) -> None:
    body = (
        "import ctypes\n"
        "parent = int(sys.argv[sys.argv.index('--parent') + 1])\n"
        "assert os.getppid() == parent\n"
        "ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)\n"
    )
    renderer = Renderer(command=fake_renderer(tmp_path, body + GOOD))
    try:
        thread = threading.Thread(target=renderer.play, args=(PLAY,))
        thread.start()
        thread.join()
        pid = renderer.warm
        assert pid is not None
        time.sleep(0.2)
        assert renderer.warm == pid, "the kernel ended it with the thread that started it"
    finally:
        renderer.close()


def test_a_renderer_that_cannot_start_is_the_frame_s_fault(tmp_path: Path) -> None:
    renderer = Renderer(command=[str(tmp_path / "nowhere")])
    with pytest.raises(RendererRefused, match="No renderer could be started") as caught:
        renderer.play(PLAY)
    assert caught.value.blame == "frame"


def test_odd_names_are_refused_before_anything_is_asked(start: Start) -> None:
    renderer = start(GOOD)
    for name in ("/\udcff.png", "/" + "x" * MAX_LINE):
        with pytest.raises(Unreadable):
            renderer.play(type(PLAY)(bundle="/b", adapter=None, photo=name, voice="/v", out="/o"))
    assert renderer.play(PLAY).frames == 25


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_film_s(start: Start) -> None:
    renderer = start("for film in films(): say(PLAYED + PLAYED)")
    renderer.play(PLAY)
    assert "before the question" in str(died(renderer))
    renderer.play(PLAY)


def test_a_renderer_that_cannot_be_ended_does_not_hold_up_the_agent(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "END_S", 0.1)
    monkeypatch.setattr(process_module, "KILL_S", 0.1)
    renderer = start("next(films()); beat(); time.sleep(60)", beat_s=0.3)
    killed: list[subprocess.Popen[bytes]] = []
    # As if it waited for a driver that never answers.
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: killed.append(process))
    began = time.monotonic()
    assert died(renderer).kind == "hang"
    assert time.monotonic() - began < 5
    monkeypatch.undo()
    assert len({process.pid for process in killed}) == 1
    killed[0].kill()
    killed[0].wait()


def test_memory_beyond_the_bound_is_refused_to_the_renderer() -> None:
    code = "from device_agent.renderer.limits import *; take_at_most(200); bytearray(100_000_000); {}"
    for size, status in (("1_000_000", 0), ("300_000_000", 1)):
        ended = subprocess.run(
            [sys.executable, "-c", code.format(f"bytearray({size})")], capture_output=True, text=True
        )
        assert ended.returncode == status
        assert ("MemoryError" in ended.stderr) == bool(status)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: f'{{"type":"{text}"}}'.encode()))
def test_whatever_comes_is_a_line_or_unreadable(data: bytes) -> None:
    for read in (read_answer, read_request):
        with suppress(Unreadable):
            assert read(data) is not None


def test_a_line_comes_back_as_it_was() -> None:
    beat = read_answer(b'{"type":"beat","frames":3}')
    assert read_answer(line(beat)) == beat
