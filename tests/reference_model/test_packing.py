import numpy as np

from device_agent.bundle import Bundle
from device_agent.bundle.manifest import FloatArray
from reference_model.packing import GoldenSource, pack_bundle, wav_bytes
from reference_model.shape import A_SHAPE, B_SHAPE, parameter_count


def packed(limit: float | None = 0.5) -> bytes:
    return pack_bundle(
        name="portrait",
        graph=b"graph",
        detector=b"detector",
        mesh=b"mesh",
        face_source="somewhere",
        face_licence="Apache-2.0",
        mean_pose=np.zeros(6, np.float32),
        golden=[GoldenSource("base", tone(), np.full((3, 6), 0.25, np.float32))],
        portrait=b"portrait",
        limits_mm={"base": limit},
    )


def tone() -> FloatArray:
    return np.asarray(np.sin(np.arange(1_900) / 10) * 0.5, dtype=np.float32)


def test_the_same_parts_give_the_same_bytes() -> None:
    assert packed() == packed()
    assert packed() != packed(limit=0.6)


def test_a_packed_bundle_opens_and_gives_back_its_parts() -> None:
    bundle = Bundle.open(packed())
    assert bundle.graph("motion", "onnx") == b"graph"
    assert (bundle.face_detector(), bundle.face_mesh()) == (b"detector", b"mesh")
    (clip,) = bundle.golden_clips()
    assert np.abs(clip.audio - tone()).max() <= 0.5 / 32768 + 1e-7
    assert np.array_equal(clip.expected, np.full((3, 6), 0.25, np.float32))


def test_loud_samples_are_clipped_and_not_wrapped() -> None:
    samples = np.frombuffer(wav_bytes(np.array([2.0, -2.0], np.float32))[44:], "<i2")
    assert samples.tolist() == [32767, -32768]


def test_the_factors_are_packed_in_the_published_shapes() -> None:
    assert (A_SHAPE, B_SHAPE) == ((6240, 8), (8, 5926))
    assert 1_280_000 < parameter_count() < 1_300_000
