# SPDX-License-Identifier: GPL-3.0-or-later
"""Distances of pictures that are in no loss: DSSIM over five scales, and mean squares in a region."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SCALES, WINDOW, SIGMA = 5, 11, 1.5
C1, C2 = 0.01**2, 0.03**2
"""Of SSIM (Wang et al. 2004), for a range of 1."""


def dssim(a: Tensor, b: Tensor, mask: Tensor) -> float:
    """(1 - SSIM) / 2, mean over the mask at each of five halved scales and over these; 0 for equal pictures.

    Args:
        a: (1, 3, H, W), -1..1; H at least 176, for the window to fit at the last scale.
        b: likewise.
        mask: (1, 1, H, W) 0..1: where it counts.
    """
    x, y, weight, total = (a + 1) / 2, (b + 1) / 2, mask, 0.0
    for _ in range(SCALES):
        total += float(
            ((1 - ssim_map(x, y)).mean(1, keepdim=True) / 2 * weight).sum() / weight.sum().clamp_min(1e-9)
        )
        x, y, weight = (F.avg_pool2d(p, 2) for p in (x, y, weight))
    return total / SCALES


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """SSIM per pixel and channel (B, C, H, W) of pictures 0..1; the border is mirrored."""
    line = torch.exp(-((torch.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    kernel = (line[:, None] * line)[None, None] / line.sum() ** 2

    def mean(p: Tensor) -> Tensor:
        flat = p.flatten(0, 1)[:, None]
        padded = F.pad(flat, (WINDOW // 2,) * 4, mode="reflect")
        return F.conv2d(padded, kernel).view_as(p)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    return (2 * ma * mb + C1) * (2 * cov + C2) / ((ma**2 + mb**2 + C1) * (va + vb + C2))


def masked_l2(a: Tensor, b: Tensor, mask: Tensor) -> float:
    """Mean squared difference over the mask, pictures -1..1."""
    return float(((a - b).square().mean(1, keepdim=True) * mask).sum() / mask.sum().clamp_min(1e-9))
