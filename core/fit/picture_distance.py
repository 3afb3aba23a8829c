# SPDX-License-Identifier: GPL-3.0-or-later
"""How unlike two pictures are, without the weights of any network: colours and gradients at several scales.

Our choice where LPIPS has no weights (they are not ours to give away): halved pictures compare what is large, gradients make
edges count, and absolute differences do not let one bad pixel decide.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 5
"""Scales, each half of the one before; fewer where the picture is smaller than 8 pixels then."""
GRADIENTS = 1.0
"""Weight of the gradients beside the colours."""


def pyramid_distance(a: Tensor, b: Tensor) -> Tensor:
    """Distance of pictures (B, 3, H, W), -1..1: a scalar >= 0, 0 for equal ones."""
    total, count = a.new_zeros(()), 0
    for _ in range(LEVELS):
        difference = a - b
        total = (
            total
            + difference.abs().mean()
            + GRADIENTS
            * (
                (difference[..., 1:] - difference[..., :-1]).abs().mean()
                + (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
            )
        )
        count += 1
        if min(a.shape[2:]) < 16:
            break
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total / count


def psnr(a: Tensor, b: Tensor, weight: Tensor | None = None) -> float:
    """dB of pictures (B, 3, H, W), -1..1, over all pixels or where `weight` (B, 1, H, W) says; 99 at most."""
    error = ((a - b) / 2).square().mean(1, keepdim=True)
    mean = error.mean() if weight is None else (error * weight).sum() / weight.sum().clamp_min(1e-9)
    return float(-10 * torch.log10(mean.clamp_min(10**-9.9)))
