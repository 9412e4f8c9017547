"""The motion model: a causal transformer with a sliding window, as a whole sequence (training) and as one step (frame).

Keys are cached before the rotation. The rotation then depends only on the slot in the window, which is the distance to
the newest step, so it is a constant of the graph: no position grows while a portrait speaks for hours.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from device_agent.pipeline.stages import MASKED
from reference_model.shape import CACHED, HEAD_WIDTH, HEADS, LAYERS, OUTPUTS, SLOTS, WIDTH, WINDOW


def rotation(length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions 0..length-1, (length, HEAD_WIDTH / 2) each."""
    half = HEAD_WIDTH // 2
    speeds = 1000.0 ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * speeds
    return torch.cos(angles), torch.sin(angles)


def rotate(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate (..., positions, HEAD_WIDTH)."""
    half = HEAD_WIDTH // 2
    first, second = vectors[..., :half], vectors[..., half:]
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)


class MotionNet(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """All parameters; `forward` is the sequence form."""

    def __init__(self, mean: Tensor, scale: Tensor, pose_mean: Tensor, pose_scale: Tensor) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(slot.inputs, slot.outputs) for slot in SLOTS)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2 * LAYERS + 1))
        self.register_buffer("feature_mean", mean)
        self.register_buffer("feature_scale", scale)
        self.register_buffer("pose_mean", pose_mean)
        self.register_buffer("pose_scale", pose_scale)

    def linear(self, index: int, x: Tensor, a_all: Tensor | None, b_all: Tensor | None) -> Tensor:
        """Layer `index` of SLOTS, with its slice of the adapter."""
        y = self.linears[index](x)
        if a_all is None or b_all is None:
            return y
        slot = SLOTS[index]
        a = a_all[slot.a_start : slot.a_start + slot.inputs]
        b = b_all[:, slot.b_start : slot.b_start + slot.outputs]
        return y + (x @ a) @ b

    def forward(self, features: Tensor, a_all: Tensor | None = None, b_all: Tensor | None = None) -> Tensor:
        """(batch, steps, 320) to (batch, steps, 6) in mm; answer t belongs to step t - LOOK_AHEAD_STEPS."""
        batch, steps, _ = features.shape
        cosines, sines = rotation(steps)
        rows = torch.arange(steps)
        distance = rows[:, None] - rows[None, :]
        mask = torch.where((distance >= 0) & (distance < WINDOW), 0.0, float("-inf"))

        def heads(x: Tensor) -> Tensor:
            return x.view(batch, steps, HEADS, HEAD_WIDTH).transpose(1, 2)

        x = self.linear(0, (features - self.feature_mean) * self.feature_scale, a_all, b_all)
        for layer in range(LAYERS):
            base = 1 + 6 * layer
            h = self.norms[2 * layer](x)
            query, key, value = (heads(self.linear(base + i, h, a_all, b_all)) for i in range(3))
            mixed = functional.scaled_dot_product_attention(
                rotate(query, cosines, sines), rotate(key, cosines, sines), value, attn_mask=mask
            )
            mixed = mixed.transpose(1, 2).reshape(batch, steps, WIDTH)
            x = x + self.linear(base + 3, mixed, a_all, b_all)
            h = functional.silu(self.linear(base + 4, self.norms[2 * layer + 1](x), a_all, b_all))
            x = x + self.linear(base + 5, h, a_all, b_all)
        answer = self.linear(len(SLOTS) - 1, self.norms[-1](x), a_all, b_all)
        return answer * self.pose_scale + self.pose_mean


class StepNet(nn.Module):  # type: ignore[misc]
    """One step of a MotionNet with the window as input and output: what is exported."""

    def __init__(self, net: MotionNet) -> None:
        super().__init__()
        self.net = net
        cosines, sines = rotation(WINDOW)
        self.register_buffer("cosines", cosines)
        self.register_buffer("sines", sines)

    def forward(
        self, features: Tensor, kv_in: Tensor, mask: Tensor, a_all: Tensor, b_all: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Shapes as in shape.INPUTS; gives motion (1, 6) and kv_out."""
        net = self.net
        x = net.linear(0, (features - net.feature_mean) * net.feature_scale, a_all, b_all)
        kept: list[Tensor] = []
        for layer in range(LAYERS):
            base = 1 + 6 * layer
            h = net.norms[2 * layer](x)
            query = net.linear(base, h, a_all, b_all).view(1, HEADS, 1, HEAD_WIDTH)
            windows: list[Tensor] = []
            for kind in range(2):
                newest = net.linear(base + 1 + kind, h, a_all, b_all).view(1, 1, 1, WIDTH)
                channel = 2 * layer + kind
                window = torch.cat([kv_in[:, channel : channel + 1], newest], dim=2)
                kept.append(window[:, :, 1:])
                windows.append(window.view(1, WINDOW, HEADS, HEAD_WIDTH).transpose(1, 2))
            keys, values = windows
            query = rotate(query, self.cosines[CACHED:], self.sines[CACHED:])
            scores = query @ rotate(keys, self.cosines, self.sines).transpose(2, 3) * HEAD_WIDTH**-0.5
            mixed = torch.softmax(scores + mask.view(1, 1, 1, WINDOW), dim=-1) @ values
            x = x + net.linear(base + 3, mixed.view(1, WIDTH), a_all, b_all)
            h = functional.silu(net.linear(base + 4, net.norms[2 * layer + 1](x), a_all, b_all))
            x = x + net.linear(base + 5, h, a_all, b_all)
        answer = net.linear(len(SLOTS) - 1, net.norms[-1](x), a_all, b_all)
        return (answer * net.pose_scale + net.pose_mean).view(1, OUTPUTS), torch.cat(kept, dim=1)


def empty_mask() -> Tensor:
    """The mask of a first step: only the newest slot counts."""
    mask = torch.full((1, WINDOW), MASKED)
    mask[0, -1] = 0.0
    return mask
