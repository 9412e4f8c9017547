import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent.bundle import Bundle
from device_agent.pipeline.acting import Pose
from device_agent.pipeline.canvas import Frame, to_bgr
from device_agent.pipeline.render import Canvas, PortraitRenderer
from device_agent.pipeline.repair import Repairer, to_tensor
from device_agent.pipeline.stages import StageGraph
from device_agent.pipeline.voice import Voice, read_voice
from device_agent.playback.engine import Engine
from device_agent.playback.sinks import NullSink
from device_agent.playback.video import Samples
from device_agent.runtime.base import RuntimeFailure
from tests.device_agent.graphs import Node, bundle_of, graph, stage
from tests.device_agent.portrait import BUNDLE, CLOSED, PORTRAIT, VOICE, landmarks, photo, pose, shown

MOUTH = (1, 3, 48, 64)
FEATURES = {"features": np.zeros((1, 320), np.float32)}
OPEN = pose(open=12, jaw=9)


def bundle(*nodes: Node, constants: dict[str, object]) -> Bundle:
    """The reference model with a face_repair of these nodes, from `mouth` to `repaired`."""
    with Bundle.open(BUNDLE) as reference:
        motion = msgspec.structs.replace(reference.manifest.stage("motion"), graphs={"onnx": "motion.onnx"})
        weights = reference.graph("motion", "onnx")
    repair = stage("face_repair", {"mouth": MOUTH}, {"repaired": MOUTH})
    mending = graph({"mouth": MOUTH}, {"repaired": MOUTH}, list(nodes), constants)
    return bundle_of({"motion": (motion, weights), "face_repair": (repair, mending)}, memory_mb=256)


def paler() -> Bundle:
    """Takes 0.25 from red, the first channel of RGB, and leaves green and blue."""
    add = np.array([-0.25, 0, 0], np.float32).reshape(1, 3, 1, 1)
    return bundle(("Add", ("mouth", "add"), "repaired", {}), constants={"add": add})


def begun(bundle: Bundle) -> StageGraph:
    """The graph after one step, as it is when a frame is drawn."""
    stages = StageGraph(bundle)
    states = stages.start()
    stages.step(FEATURES, states)
    return stages


def test_a_stage_that_changes_nothing_changes_nothing() -> None:
    same = bundle(("Identity", ("mouth",), "repaired", {}), constants={})
    with same, begun(same) as stages:
        mended = PortraitRenderer(photo(), landmarks(), Repairer(stages))
        plain = PortraitRenderer(photo(), landmarks())
        assert np.array_equal(shown(mended, OPEN), shown(plain, OPEN))


def test_the_repair_is_laid_on_the_mouth_and_fades_to_nothing_at_its_border() -> None:
    with paler() as other, begun(other) as stages:
        mended = PortraitRenderer(photo(), landmarks(), Repairer(stages))
        left, top, right, bottom = mended.region
        plain = shown(PortraitRenderer(photo(), landmarks()), OPEN).astype(int)
        change = shown(mended, OPEN).astype(int) - plain
    outside = change.copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any()
    middle = change[(top + bottom) // 2 + 20, (left + right) // 2 - 40 : (left + right) // 2 + 40]
    assert middle[:, 2].mean() == pytest.approx(-64, abs=6), "red is the last channel of BGR"
    assert np.abs(middle[:, :2].mean(axis=0)).max() < 6
    assert np.abs(change[top + 1, left:right]).max() <= 6


def test_each_frame_is_repaired_after_its_own_step() -> None:
    """The stage sees every mouth that is drawn, and pictures in the shape that the manifest declares."""
    with paler() as other, begun(other) as stages:
        portrait, canvas = PortraitRenderer(photo(), landmarks(), Repairer(stages)), Canvas()
        frames = []
        for motion in (OPEN, CLOSED, OPEN):
            portrait.draw(canvas, Pose(motion))
            frames.append(to_bgr(canvas.frame))
    assert np.array_equal(frames[0], frames[2])
    assert not np.array_equal(frames[0], frames[1])


def test_answers_that_are_not_finite_are_a_failure_and_no_picture() -> None:
    broken = bundle(("Mul", ("mouth", "nothing"), "repaired", {}), constants={"nothing": np.float32(np.nan)})
    with broken, begun(broken) as stages:
        mended = PortraitRenderer(photo(), landmarks(), Repairer(stages))
        with pytest.raises(RuntimeFailure, match="not finite"):
            shown(mended, OPEN)


def test_a_tensor_is_the_picture_in_rgb_between_0_and_1() -> None:
    picture = np.zeros((20, 10, 3), np.uint8)
    picture[:, :, 0] = 255  # blue in BGR
    tensor = to_tensor(picture, (1, 3, 5, 4))
    assert tensor.shape == (1, 3, 5, 4)
    assert tensor.dtype == np.float32
    assert (tensor[0, 2] == 1).all()
    assert not tensor[0, :2].any()


def test_the_engine_plays_a_bundle_that_repairs(tmp_path: Path) -> None:
    class Fingerprints(NullSink):
        def __init__(self) -> None:
            self.frames: list[str] = []

        def write(self, frame: Frame, sound: Samples) -> None:
            self.frames.append(hashlib.sha256(frame.data).hexdigest())

    path = tmp_path / "repairing.bundle"
    with paler() as other:
        other._stream.seek(0)
        path.write_bytes(other._stream.read())
    samples = read_voice(VOICE).samples[8_000:16_000]
    films = []
    engine = Engine("onnx")
    for each in (BUNDLE, path, BUNDLE):
        engine.use(each, None)
        sink = Fingerprints()
        engine.play(PORTRAIT, Voice(samples, samples, 16_000), sink)
        films.append(sink.frames)
    engine.close()
    assert films[0] == films[2]
    assert not set(films[0]) & set(films[1])
