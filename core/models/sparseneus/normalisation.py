# SPDX-License-Identifier: GPL-3.0-or-later
"""Batch normalisation by the statistics of the batch at hand, which is how One-2-3-45 runs at inference too.

The original never switches to evaluation, so the running statistics in its checkpoint are never read. The 2D layers scale
by |weight| + 1e-5 (in-place activated batch norm, Rota Bulo et al. 2018), the 3D ones by the weight as it is.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Statistics = Literal["batch", "running"]
EPS = 1e-5


class Norm(nn.Module):
    """Parameters and buffers of a batch norm, names as in the checkpoint."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))


class ActivatedNorm(Norm):
    """(x - mean)/sqrt(var + eps) (|w| + eps) + b, then leaky ReLU 0.01, over pictures and pixels."""

    def forward(self, x: Tensor, statistics: Statistics) -> Tensor:
        """(V, C, H, W) -> (V, C, H, W)."""
        scale = self.weight.abs() + EPS
        use_batch = statistics == "batch"
        mean, var = (None, None) if use_batch else (self.running_mean, self.running_var)
        return F.leaky_relu(F.batch_norm(x, mean, var, scale, self.bias, training=use_batch, eps=EPS), 0.01)


class MaskedNorm(Norm):
    """Batch norm over the active voxels and ReLU; the rest becomes zero."""

    def forward(self, x: Tensor, mask: Tensor, statistics: Statistics) -> Tensor:
        """x (1, C, X, Y, Z), mask (1, 1, X, Y, Z) of zeros and ones -> (1, C, X, Y, Z)."""
        if statistics == "batch":
            count = mask.sum()
            mean = (x * mask).sum((0, 2, 3, 4)) / count  # (C,)
            var = ((x - mean[:, None, None, None]).square() * mask).sum((0, 2, 3, 4)) / count
        else:
            mean, var = self.running_mean, self.running_var
        gain = self.weight / (var + EPS).sqrt()
        shift = self.bias - mean * gain
        return F.relu(x * gain[:, None, None, None] + shift[:, None, None, None]) * mask
