# SPDX-License-Identifier: GPL-3.0-or-later
"""BiSeNet (Yu et al. 2018) with 19 classes of a face, in the layout of the public face-parsing weights.

Two side outputs serve training only; they are in the files, so they are here, unused.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.resnet18 import MEAN, STD, ResnetFeatures

CLASSES = 19
SIDE = 512
"""Pixels of the picture it was trained with."""


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU; keeps the side."""

    def __init__(self, width: int, out: int, size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, size, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, out, H, W)."""
        return F.relu(self.bn(self.conv(x)))


class AttentionRefinement(nn.Module):
    """Features weighted per channel by what the whole picture says."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = ConvNorm(width, out)
        self.conv_atten = nn.Conv2d(out, out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, out, H, W)."""
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True))))


class ContextPath(nn.Module):
    """ResNet-18 with its features at 1/16 and 1/32 brought back to 1/8."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = ResnetFeatures()
        self.arm16, self.arm32 = AttentionRefinement(256, 128), AttentionRefinement(512, 128)
        self.conv_head32, self.conv_head16 = ConvNorm(128, 128), ConvNorm(128, 128)
        self.conv_avg = ConvNorm(512, 128, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) normalised -> trunk (B, 128, H / 8, W / 8), context (B, 128, H / 8, W / 8)."""
        trunk = self.resnet
        x = F.max_pool2d(F.relu(trunk.bn1(trunk.conv1(image))), 3, 2, 1)
        eighth = trunk.layer2(trunk.layer1(x))
        sixteenth = trunk.layer3(eighth)
        last = trunk.layer4(sixteenth)
        whole = self.conv_avg(last.mean((2, 3), keepdim=True))
        up = F.interpolate(self.arm32(last) + whole, size=sixteenth.shape[2:], mode="nearest")
        up = self.arm16(sixteenth) + self.conv_head32(up)
        return eighth, self.conv_head16(F.interpolate(up, size=eighth.shape[2:], mode="nearest"))


class FeatureFusion(nn.Module):
    """Trunk and context together, weighted per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convblk = ConvNorm(width, width, 1)
        self.conv1 = nn.Conv2d(width, width // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same."""
        x = self.convblk(x)
        attention = torch.sigmoid(self.conv2(F.relu(self.conv1(x.mean((2, 3), keepdim=True)))))
        return x + x * attention


class Output(nn.Module):
    """Features -> classes."""

    def __init__(self, width: int, middle: int) -> None:
        super().__init__()
        self.conv = ConvNorm(width, middle)
        self.conv_out = nn.Conv2d(middle, CLASSES, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, classes, H, W)."""
        return self.conv_out(self.conv(x))


class FaceParser(nn.Module):
    """Portrait -> scores of the 19 classes; see `blending.masks.CELEBA_PARTS`."""

    def __init__(self) -> None:
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion(256)
        self.conv_out, self.conv_out16, self.conv_out32 = Output(256, 256), Output(128, 64), Output(128, 64)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W), 0..1, best `SIDE` pixels -> scores (B, 19, H, W)."""
        mean, std = (torch.tensor(v).to(image)[:, None, None] for v in (MEAN, STD))
        trunk, context = self.cp((image - mean) / std)
        scores = self.conv_out(self.ffm(torch.cat([trunk, context], 1)))
        return F.interpolate(scores, size=image.shape[2:], mode="bilinear", align_corners=True)
