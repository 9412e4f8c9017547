"""The step that runs on a frame answers like the sequence model that is trained. Needs torch, so usually skipped."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is only in the training environment")

from reference_model.network import MotionNet, StepNet, empty_mask  # noqa: E402
from reference_model.shape import A_SHAPE, B_SHAPE, KV_SHAPE, OUTPUTS  # noqa: E402


def test_steps_answer_like_the_sequence() -> None:
    torch.manual_seed(1)
    net = MotionNet(torch.zeros(320), torch.ones(320), torch.zeros(OUTPUTS), torch.ones(OUTPUTS)).eval()
    a_all, b_all = torch.randn(A_SHAPE) * 0.05, torch.randn(B_SHAPE) * 0.05
    features = torch.randn(1, 60, 320)
    step, cache, mask = StepNet(net).eval(), torch.zeros(KV_SHAPE), empty_mask()
    answers = []
    with torch.no_grad():
        for index in range(60):
            mask[0, max(0, 24 - index) :] = 0.0
            motion, cache = step(features[:, index], cache, mask, a_all, b_all)
            answers.append(motion)
        expected = net(features, a_all, b_all)[0]
    assert np.abs((torch.cat(answers) - expected).numpy()).max() < 1e-4
