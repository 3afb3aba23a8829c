# SPDX-License-Identifier: GPL-3.0-or-later
"""LoFTR's convolutional part: a residual network with a feature pyramid, outputs at 1/8 and 1/2 of the picture."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut (He et al. 2016)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.downsample(x) + self.bn2(self.conv2(y)))


def smoothing(channels: int, out: int) -> nn.Sequential:
    """conv3x3, batch norm, leaky ReLU, conv3x3."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(0.01),
        nn.Conv2d(channels, out, 3, 1, 1, bias=False),
    )


class Backbone(nn.Module):
    """Grey picture -> coarse and fine features."""

    def __init__(self, first: int = 128, widths: tuple[int, int, int] = (128, 196, 256)) -> None:
        super().__init__()
        a, b, c = widths
        self.conv1, self.bn1 = nn.Conv2d(1, first, 7, 2, 3, bias=False), nn.BatchNorm2d(first)
        self.layer1 = nn.Sequential(BasicBlock(first, a, 1), BasicBlock(a, a, 1))
        self.layer2 = nn.Sequential(BasicBlock(a, b, 2), BasicBlock(b, b, 1))
        self.layer3 = nn.Sequential(BasicBlock(b, c, 2), BasicBlock(c, c, 1))
        self.layer3_outconv = nn.Conv2d(c, c, 1, bias=False)
        self.layer2_outconv, self.layer2_outconv2 = nn.Conv2d(b, c, 1, bias=False), smoothing(c, b)
        self.layer1_outconv, self.layer1_outconv2 = nn.Conv2d(a, b, 1, bias=False), smoothing(b, a)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 1, H, W) 0..1, sides multiples of 8 -> coarse (B, c, H/8, W/8), fine (B, a, H/2, W/2)."""
        x1 = self.layer1(F.relu(self.bn1(self.conv1(image))))
        x2 = self.layer2(x1)
        x3 = self.layer3(x2)
        coarse = self.layer3_outconv(x3)
        middle = self.layer2_outconv2(self.layer2_outconv(x2) + double(coarse))
        return coarse, self.layer1_outconv2(self.layer1_outconv(x1) + double(middle))


def double(x: Tensor) -> Tensor:
    """Twice the size, bilinear with aligned corners."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
