from pathlib import Path

import pytest

from device_agent.bundle import Bundle
from reference_model.repacking import members_of, with_graph
from tests.reference_model.artifacts import BUNDLE, bundle


def test_a_bundle_with_another_graph_keeps_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "new.bundle"
    path.write_bytes(with_graph(BUNDLE, "motion", "rknn", "other.rknn", b"graph"))
    with Bundle.open(path) as changed:
        changed.verify()
        assert changed.graph("motion", "rknn") == b"graph"
        assert changed.graph("motion", "onnx") == bundle().graph("motion", "onnx")
        assert changed.manifest.golden == bundle().manifest.golden
    old = bundle().manifest.stage("motion").graphs["rknn"]
    assert set(members_of(BUNDLE)) - set(members_of(path)) == {old}


def test_putting_in_what_is_there_changes_no_byte() -> None:
    graph = bundle().manifest.stage("motion").graphs["rknn"]
    same = with_graph(BUNDLE, "motion", "rknn", graph, bundle().graph("motion", "rknn"))
    assert same == BUNDLE.read_bytes()


def test_a_graph_of_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="no stage named face_repair"):
        with_graph(BUNDLE, "face_repair", "rknn", "face.rknn", b"graph")
