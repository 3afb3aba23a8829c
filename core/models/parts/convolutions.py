# SPDX-License-Identifier: GPL-3.0-or-later
"""Convolutions with batch norm, of which the networks that we train ourselves are made: on a CPU they learn fastest."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """3 x 3, batch norm, SiLU."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.SiLU())


class Residual(nn.Module):
    """x + f(x), two convolutions (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(channels)
        nn.init.zeros_(last.weight)
        self.inner = nn.Sequential(
            convolution(channels, channels), nn.Conv2d(channels, channels, 3, padding=1, bias=False), last
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return F.silu(x + self.inner(x))
