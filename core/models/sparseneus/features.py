# SPDX-License-Identifier: GPL-3.0-or-later
"""2D features of the pictures: a small feature pyramid (Lin et al. 2017), SparseNeuS section 3.1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .normalisation import ActivatedNorm, Statistics


class ConvNorm(nn.Module):
    """Convolution without bias, activated batch norm."""

    def __init__(self, channels: int, out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
        self.bn = ActivatedNorm(out)

    def forward(self, x: Tensor, statistics: Statistics) -> Tensor:
        """(V, channels, H, W) -> (V, out, H/stride, W/stride)."""
        return self.bn(self.conv(x), statistics)


class FeaturePyramid(nn.Module):
    """Pictures -> features at full, half and quarter resolution."""

    def __init__(self, widths: tuple[int, int, int] = (8, 16, 32)) -> None:
        super().__init__()
        full, half, quarter = widths
        self.conv0 = nn.ModuleList([ConvNorm(3, full), ConvNorm(full, full)])
        self.conv1 = nn.ModuleList([ConvNorm(full, half, 5, 2), ConvNorm(half, half), ConvNorm(half, half)])
        self.conv2 = nn.ModuleList(
            [ConvNorm(half, quarter, 5, 2), ConvNorm(quarter, quarter), ConvNorm(quarter, quarter)]
        )
        self.toplayer = nn.Conv2d(quarter, quarter, 1)
        self.lat1, self.lat0 = nn.Conv2d(half, quarter, 1), nn.Conv2d(full, quarter, 1)
        self.smooth1, self.smooth0 = nn.Conv2d(quarter, half, 3, 1, 1), nn.Conv2d(quarter, full, 3, 1, 1)

    def forward(self, images: Tensor, statistics: Statistics = "batch") -> tuple[Tensor, Tensor, Tensor]:
        """images (V, 3, H, W) RGB 0..1, all views at once -> quarter (V, 32, ..), half (V, 16, ..), full (V, 8, H, W)."""
        maps = [images]
        for stage in (self.conv0, self.conv1, self.conv2):
            x = maps[-1]
            for layer in stage:
                x = layer(x, statistics)
            maps.append(x)
        quarter = self.toplayer(maps[3])
        half = enlarge(quarter, 2) + self.lat1(maps[2])
        full = enlarge(half, 2) + self.lat0(maps[1])  # from the half map before it is smoothed
        return quarter, self.smooth1(half), self.smooth0(full)


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Bilinear with aligned corners: (V, C, H, W) -> (V, C, factor H, factor W)."""
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=True)


def fuse(quarter: Tensor, half: Tensor, full: Tensor) -> Tensor:
    """The three levels at full resolution, coarsest first: (V, 56, H, W)."""
    return torch.cat([enlarge(quarter, 4), enlarge(half, 2), full], 1)
