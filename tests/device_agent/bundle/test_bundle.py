import hashlib
import re
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.bundle import MANIFEST, Bundle, BundleError
from device_agent.runtime import OrtRuntime, RuntimeFailure
from reference_model.packing import write_zip
from tests.reference_model.artifacts import BUNDLE, bundle, compressed, members, with_manifest

SENTENCE = re.compile(r"^[A-Z].*[.]$", re.DOTALL)


def refused(source: Path | str | bytes) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(source)
    assert SENTENCE.match(str(caught.value))
    return str(caught.value)


def test_a_bundle_opens_from_a_path_and_from_bytes() -> None:
    content = BUNDLE.read_bytes()
    with Bundle.open(str(BUNDLE)) as from_path, Bundle.open(content) as from_bytes:
        assert from_path.manifest == from_bytes.manifest
        assert from_path.sha256 == from_bytes.sha256 == hashlib.sha256(content).hexdigest()
        from_path.verify()


def test_golden_clips_come_with_their_expected_motion() -> None:
    clips = list(bundle().golden_clips())
    assert {clip.segment for clip in clips} == {"base", "mandarin", "whisper", "high_voice"}
    for clip in clips:
        assert clip.expected.shape == (-(-clip.audio.size // 640), 6)
        assert 0.05 < np.abs(clip.audio).max() <= 1.0


def test_the_face_weights_are_tflite_files() -> None:
    assert bundle().face_detector()[4:8] == bundle().face_mesh()[4:8] == b"TFL3"


def test_what_is_not_a_zip_is_refused() -> None:
    assert "not a complete zip" in refused(b"")
    assert "not a complete zip" in refused(b"PK\x03\x04 but nothing else")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "nothing.bundle")
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.9999])
def test_a_bundle_that_was_cut_off_is_refused(kept: float) -> None:
    content = BUNDLE.read_bytes()
    assert "not a complete zip" in refused(content[: int(len(content) * kept)])


def test_compressed_members_are_refused() -> None:
    assert "compressed" in refused(compressed())


def test_a_bundle_without_a_manifest_is_refused() -> None:
    content = members()
    del content[MANIFEST]
    assert "no manifest" in refused(write_zip(content))


def test_a_manifest_that_is_no_json_is_refused() -> None:
    assert "cannot be understood" in refused(write_zip({**members(), MANIFEST: b"{"}))


def test_a_manifest_of_unbounded_size_is_refused() -> None:
    assert "larger than" in refused(write_zip({**members(), MANIFEST: b" " * 300_000}))


def test_a_member_the_manifest_does_not_name_is_refused() -> None:
    assert "does not name" in refused(write_zip({**members(), "extra.bin": b"x"}))


def test_a_missing_member_is_refused() -> None:
    content = members()
    del content["motion.onnx"]
    assert "motion.onnx is missing" in refused(write_zip(content))


def test_too_many_members_are_refused() -> None:
    assert "at most 256" in refused(write_zip({str(number): b"" for number in range(300)}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda manifest: manifest.update(format=1), "understands format 2"),
        (lambda manifest: manifest.pop("audio"), "cannot be understood"),
        (lambda manifest: manifest["motion"]["mean_pose"].pop(), "one value per motion parameter"),
        (lambda manifest: manifest["audio"].update(step_samples=0), "positive"),
        (lambda manifest: manifest["audio"].update(look_ahead_steps=1000), "look-ahead"),
        (lambda manifest: manifest["golden"]["clips"][0].update(steps=10**6), "between one step"),
        (lambda manifest: manifest["golden"]["clips"][0].update(steps=7), "does not have 7 steps"),
        (lambda manifest: manifest["golden"]["limits"]["lip_mm"].pop("base"), "no lip error limit"),
        (lambda manifest: manifest["golden"]["clips"][0].update(wav="../etc/passwd"), "without naming it"),
        (lambda manifest: manifest["stages"][0]["inputs"][0].update(shape=[1, -320]), "impossible shape"),
        (lambda manifest: manifest["stages"][0]["inputs"][0].update(shape=[2**20, 2**20]), "impossible shape"),
        (lambda manifest: manifest["adapter"]["tensors"][0].update(minimum=2.0), "impossible shape or range"),
        (lambda manifest: manifest["adapter"]["slots"].pop(), "A (all inputs, rank)"),
        (lambda manifest: manifest["adapter"]["slots"][3].update(a_start=0), "does not follow"),
        (lambda manifest: manifest["stages"][0]["inputs"][0].update(name="sound"), "nothing gives"),
        (lambda manifest: manifest["stages"][0]["inputs"][3].update(shape=[6240, 9]), "nothing gives"),
        (lambda manifest: manifest["stages"][0].update(states=[]), "nothing gives"),
        (lambda manifest: manifest["stages"][0]["states"][0].update(output="motion"), "nothing gives"),
        (lambda manifest: manifest["stages"][0]["outputs"][0].update(shape=[1, 5]), "one value per motion parameter"),
        (lambda manifest: manifest["motion"]["parameters"][0].update(name="chin"), "which is what this agent draws"),
        (lambda manifest: manifest["stages"].append(manifest["stages"][0]), "each once"),
        (lambda manifest: manifest["stages"][0].update(name="token_decoder"), "must be motion"),
        (lambda manifest: manifest["stages"][0].update(memory_mb=65), "more memory than the bundle's budget"),
        (lambda manifest: manifest["stages"][0].update(graphs={}), "no graph"),
        (lambda manifest: manifest["stages"][0]["inputs"][1].update(layout="nd"), "must say nchw"),
        (lambda manifest: manifest["golden"]["limits"].update(memory_mb=-1), "positive numbers or null"),
        (lambda manifest: manifest["files"]["motion.onnx"].update(length=5), "another length"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(change: Callable[[dict[str, Any]], None], words: str) -> None:
    assert words in refused(with_manifest(change))


def test_a_list_of_members_that_is_too_long_is_refused_before_it_is_read() -> None:
    content = bytearray(BUNDLE.read_bytes())
    struct.pack_into("<I", content, content.rfind(b"PK\x05\x06") + 12, 1 << 30)
    assert "list of members is larger" in refused(bytes(content))


def test_a_damaged_member_is_refused_when_it_is_read() -> None:
    content = members()
    graph = bytearray(content["motion.onnx"])
    graph[1000] ^= 1
    content["motion.onnx"] = bytes(graph)
    opened = Bundle.open(write_zip(content))
    assert opened.face_mesh()
    with pytest.raises(BundleError, match=r"motion\.onnx is damaged"):
        opened.graph("motion", "onnx")


def test_a_bit_flipped_in_the_file_is_refused_when_it_is_read() -> None:
    content = bytearray(BUNDLE.read_bytes())
    content[len(content) // 3] ^= 4
    with pytest.raises(BundleError, match="damaged"):
        Bundle.open(bytes(content)).verify()


def test_a_graph_that_is_no_graph_is_refused_by_the_graph() -> None:
    content = members()
    manifest = msgspec.json.decode(content[MANIFEST])
    content["motion.onnx"] = b"not a graph"
    manifest["files"]["motion.onnx"] = {"length": 11, "sha256": hashlib.sha256(b"not a graph").hexdigest()}
    content[MANIFEST] = msgspec.json.encode(manifest)
    with pytest.raises(RuntimeFailure, match=r"^The graph of motion cannot be loaded: .+\.$"):
        OrtRuntime().load(Bundle.open(write_zip(content)))


def test_a_runtime_the_bundle_does_not_serve_is_named() -> None:
    onnx_only = Bundle.open(with_manifest(lambda manifest: manifest["stages"][0]["graphs"].pop("rknn")))
    with pytest.raises(BundleError, match="no rknn graph"):
        onnx_only.graph("motion", "rknn")
    with pytest.raises(BundleError, match="no member"):
        onnx_only.read("motion.rknn")


@cache
def small() -> bytes:
    """A bundle whose manifest is whole and whose members are missing: mostly directory, so damage hits it."""
    return write_zip({MANIFEST: members()[MANIFEST]})


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_directory_is_refused_with_a_sentence(data: st.DataObject) -> None:
    damaged = bytearray(small())
    directory = damaged.rindex(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(directory, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    refused(bytes(damaged))


def test_a_directory_that_points_before_the_file_is_refused() -> None:
    damaged = bytearray(small())
    # The end record's offset of the directory: zipfile answers this one with a bare ValueError.
    damaged[-6:-2] = b"\xff\xff\xff\x7f"
    refused(bytes(damaged))


def test_a_bundle_replaced_under_its_path_keeps_its_identity(tmp_path: Path) -> None:
    path = tmp_path / "portrait.bundle"
    path.write_bytes(BUNDLE.read_bytes())
    with Bundle.open(path) as opened:
        path.unlink()
        path.write_bytes(b"something else")
        assert opened.sha256 == bundle().sha256
        opened.verify()
