"""Training of the motion model and of adapters for it, with one seed and a fixed number of threads."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from device_agent.pipeline.features import FloatArray
from reference_model.corpus import Clip, Corpus
from reference_model.network import MotionNet
from reference_model.shape import A_LIMIT, A_SHAPE, B_LIMIT, B_SHAPE, LOOK_AHEAD_STEPS

THREADS = 2
_CROP_STEPS = 100
_BATCH = 16
_VELOCITY_WEIGHT = 0.5

Report = Callable[[str], None]


@dataclass(frozen=True)
class Factors:
    """The packed factors of a trained adapter."""

    a_all: FloatArray
    b_all: FloatArray


class _Sampler:
    """Random crops of clips laid end to end; the answer to a step is due LOOK_AHEAD_STEPS later."""

    def __init__(self, clips: Sequence[Clip], generator: torch.Generator) -> None:
        self._features = torch.from_numpy(np.concatenate([clip.features for clip in clips]))
        self._targets = torch.from_numpy(np.concatenate([clip.targets for clip in clips]))
        self._generator = generator

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        last = len(self._targets) - _CROP_STEPS - 1
        starts = torch.randint(0, last, (size,), generator=self._generator)
        rows = starts[:, None] + torch.arange(_CROP_STEPS)
        return self._features[rows], self._targets[rows]


def _loss(answers: Tensor, targets: Tensor) -> Tensor:
    due = answers[:, LOOK_AHEAD_STEPS:]
    wanted = targets[:, :-LOOK_AHEAD_STEPS]
    error = (due - wanted).abs().mean()
    # Lips that jump between two right poses look worse than the error says.
    velocity = (due.diff(dim=1) - wanted.diff(dim=1)).abs().mean()
    return error + _VELOCITY_WEIGHT * velocity


def _rate(step: int, steps: int, peak: float) -> float:
    warm = min(1.0, (step + 1) / max(1, steps // 20))
    return peak * warm * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def train_base(corpus: Corpus, steps: int, seed: int, report: Report) -> MotionNet:
    """Train the base model on a corpus."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    features = np.concatenate([clip.features for clip in corpus.clips])
    targets = np.concatenate([clip.targets for clip in corpus.clips])
    net = MotionNet(
        torch.from_numpy(features.mean(axis=0)),
        torch.from_numpy((1.0 / np.maximum(features.std(axis=0), 1e-3)).astype(np.float32)),
        torch.from_numpy(targets.mean(axis=0)),
        torch.from_numpy(targets.std(axis=0)),
    )
    sampler = _Sampler(corpus.clips, generator)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98))
    started = time.monotonic()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, steps, 1.5e-3)
        inputs, wanted = sampler.batch(_BATCH)
        loss = _loss(net(inputs), wanted)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 99:
            report(f"base step {step + 1}/{steps}: loss {loss.item():.3f}, {time.monotonic() - started:.0f} s")
    net.eval()
    return net


def train_adapter(
    net: MotionNet, cohort: Corpus, base: Corpus | None, steps: int, seed: int, report: Report
) -> Factors:
    """Train a LoRA delta on a cohort, with base sentences mixed in half and half so that they are not forgotten.

    Without `base` the adapter learns the cohort alone, at the expense of everybody else.
    """
    torch.set_num_threads(THREADS)
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    a_all = (torch.randn(A_SHAPE, generator=generator) * 0.08).requires_grad_(True)
    b_all = torch.zeros(B_SHAPE, requires_grad=True)
    corpora = [cohort] if base is None else [cohort, base]
    samplers = [_Sampler(corpus.clips, generator) for corpus in corpora]
    optimiser = torch.optim.AdamW([a_all, b_all], lr=1e-3, weight_decay=0.0, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, steps, 5e-3)
        parts = [sampler.batch(_BATCH // len(samplers)) for sampler in samplers]
        inputs = torch.cat([part[0] for part in parts])
        wanted = torch.cat([part[1] for part in parts])
        loss = _loss(net(inputs, a_all, b_all), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            a_all.clamp_(-A_LIMIT, A_LIMIT)
            b_all.clamp_(-B_LIMIT, B_LIMIT)
        if step % 50 == 49:
            report(f"adapter step {step + 1}/{steps}: loss {loss.item():.3f}")
    return Factors(a_all.detach().numpy(), b_all.detach().numpy())
