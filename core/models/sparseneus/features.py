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
        # A view at a time stays in a processor's cache, and a part of wider maps need not be copied as a whole.
        return self.bn(torch.cat([self.conv(view) for view in x.split(1)]), statistics)


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
        full = [  # a view at a time: four times the channels of the result; from the half map before it is smoothed
            self.smooth0(enlarge(below, 2) + self.lat0(beside))
            for below, beside in zip(half.split(1), maps[1].split(1), strict=True)
        ]
        return quarter, self.smooth1(half), torch.cat(full)


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Bilinear with aligned corners: (V, C, H, W) -> (V, C, factor H, factor W)."""
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=True)


def fuse(images: Tensor, quarter: Tensor, half: Tensor, full: Tensor) -> Tensor:
    """The pictures, then the three levels at full resolution, coarsest first: (V, 59, H, W)."""
    levels = zip(images, quarter.split(1), half.split(1), full, strict=True)
    return torch.stack([torch.cat([i, enlarge(q, 4)[0], enlarge(h, 2)[0], f]) for i, q, h, f in levels])
