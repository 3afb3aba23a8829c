# SPDX-License-Identifier: GPL-3.0-or-later
"""ResNet-18 image encoder (He et al. 2016) as Occupancy Networks, DVR, Texture Fields and Occupancy Flow use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut; stride 2 or a new width needs a 1x1 `downsample`."""

    def __init__(self, size_in: int, size_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(size_in, size_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(size_out)
        self.conv2 = nn.Conv2d(size_out, size_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(size_out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(size_in, size_out, 1, stride, bias=False), nn.BatchNorm2d(size_out))
            if stride != 1 or size_in != size_out
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, size_in, H, W) -> (B, size_out, H / stride, W / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResnetFeatures(nn.Module):
    """ResNet-18 without its classifier; key names are torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths = (64, 64, 128, 256, 512)
        for stage in range(1, 5):
            size_in, size_out = widths[stage - 1], widths[stage]
            blocks = BasicBlock(size_in, size_out, 1 if stage == 1 else 2), BasicBlock(size_out, size_out, 1)
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) normalised -> (B, 512)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x.mean((2, 3))


class Resnet18(nn.Module):
    """Picture -> condition vector: normalise, ResNet-18, one linear layer."""

    def __init__(self, c_dim: int) -> None:
        super().__init__()
        self.features = ResnetFeatures()
        self.fc = nn.Linear(512, c_dim)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, 224, 224) RGB 0..1 -> (B, c_dim)."""
        mean, std = (
            torch.tensor(v, dtype=image.dtype, device=image.device)[:, None, None] for v in (MEAN, STD)
        )
        condition: Tensor = self.fc(self.features((image - mean) / std))
        return condition
