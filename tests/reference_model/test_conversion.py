from pathlib import Path

import numpy as np
import pytest

from device_agent.bundle.manifest import FloatArray
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph
from reference_model.conversion import RecordingRuntime, operators_in, reaching_its_range
from tests.reference_model.artifacts import bundle, mandarin

TABLE = """\
I rknn building ...
D RKNN: [07:07:41.986] ID   OpType           DataType Target InputShape     OutputShape   Cycles(DDR/NPU/Total)  FullName
D RKNN: [07:07:41.986] 0    InputOperator    INT8     CPU    \\              (1,320)       0/0/0         0        InputOperator:features
D RKNN: [07:07:41.986] 5    Reshape          INT8     NPU    (1,320),(4)    (1,320,1,1)   0/0/0         0        Reshape:features_rs
D RKNN: [07:07:41.986] 43   Transpose        INT8     CPU    (25,160,1,1)   (1,160,1,25)  0/0/0         3        Transpose:/Transpose_1_output_0_tp#1
D RKNN: [07:07:42.019] 9    Reshape          A_all    INT8   UNDEFINED      (6240,8)      | 0x0000f180 0x00027780
"""  # noqa: E501


def test_the_converter_s_table_tells_what_stays_on_the_cpu() -> None:
    operators = operators_in(TABLE)
    assert operators.total == 3
    assert operators.on_cpu == ("InputOperator features", "Transpose /Transpose_1_output_0_tp#1")


@pytest.mark.parametrize("with_adapter", [False, True])
def test_calibration_reaches_the_range_that_the_manifest_allows(with_adapter: bool) -> None:
    signature = bundle().manifest.adapter
    adapter = mandarin() if with_adapter else None
    reaching = reaching_its_range(adapter, signature)
    for declared in signature.tensors:
        values = reaching[declared.name]
        assert (values.shape, str(values.dtype)) == (declared.shape, "float32")
        assert (values.min(), values.max()) == (np.float32(declared.minimum), np.float32(declared.maximum))
        before = adapter.tensors[declared.name] if adapter else np.zeros(declared.shape)
        assert np.count_nonzero(values != before) == 2


def test_recorded_steps_are_the_graph_s_inputs_in_its_order(tmp_path: Path) -> None:
    clip = next(bundle().golden_clips())
    recorder = RecordingRuntime(bundle(), tmp_path, every=10)
    with StageGraph(bundle(), lambda _: recorder) as graph:
        graph.set_adapter(mandarin())
        motion = motion_for(graph, clip.audio)
    assert np.array_equal(motion, motion_for_exactly(clip.audio))
    lines = recorder.dataset().read_text().splitlines()
    # Every step was answered, those of the look-ahead too.
    assert len(lines) == -(-(len(motion) + bundle().manifest.audio.look_ahead_steps) // 10)
    for line in lines:
        shapes = [np.load(tmp_path / name).shape for name in line.split()]
        assert shapes == [spec.shape for spec in bundle().manifest.stage("motion").inputs]
    first, last = (np.load(tmp_path / line.split()[1]) for line in (lines[0], lines[-1]))
    assert not first.any()
    assert last.any()


def motion_for_exactly(audio: FloatArray) -> FloatArray:
    with StageGraph(bundle()) as graph:
        graph.set_adapter(mandarin())
        return motion_for(graph, audio)
