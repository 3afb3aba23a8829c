# SPDX-License-Identifier: GPL-3.0-or-later
"""The 2-D and 3-D U-Nets of Convolutional Occupancy Networks (Peng et al. 2020, supplementary 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DownConv(nn.Module):
    """Two 3x3 convolutions with relu."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(size_in, size_out, 3, padding=1)
        self.conv2 = nn.Conv2d(size_out, size_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, size_in, H, W) -> (B, size_out, H, W)."""
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class UpConv(nn.Module):
    """Twice the side, half the channels, then the skip connection and two convolutions."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.upconv = nn.ConvTranspose2d(size_in, size_out, 2, 2)
        self.conv1 = nn.Conv2d(2 * size_out, size_out, 3, padding=1)
        self.conv2 = nn.Conv2d(size_out, size_out, 3, padding=1)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """skip (B, size_out, 2 H, 2 W), x (B, size_in, H, W) -> (B, size_out, 2 H, 2 W)."""
        x = torch.cat([self.upconv(x), skip], 1)
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class UNet(nn.Module):
    """U-Net over a feature plane.

    Args:
        c_dim: channels in and out.
        widths: channels of the levels, finest first (published: 32, 64, 128, ...).
    """

    def __init__(self, c_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [c_dim, *widths]
        self.down_convs = nn.ModuleList(DownConv(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        ups = list(widths)[::-1]
        self.up_convs = nn.ModuleList(UpConv(a, b) for a, b in zip(ups, ups[1:], strict=False))
        self.conv_final = nn.Conv2d(widths[0], c_dim, 1)

    def forward(self, plane: Tensor) -> Tensor:
        """plane (B, C, R, R), R divisible by 2^(levels - 1) -> (B, C, R, R)."""
        x, skips = plane, []
        for i, down in enumerate(self.down_convs):
            x = down(x if i == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for up, skip in zip(self.up_convs, skips[-2::-1], strict=True):
            x = up(skip, x)
        out: Tensor = self.conv_final(x)
        return out


class SingleConv(nn.Module):
    """Group norm, 3x3x3 convolution without bias, relu ("gcr")."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.groupnorm = nn.GroupNorm(8 if size_in >= 8 else 1, size_in)
        self.conv = nn.Conv3d(size_in, size_out, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, size_in, D, H, W) -> (B, size_out, D, H, W)."""
        return F.relu(self.conv(self.groupnorm(x)))


class DoubleConv(nn.Module):
    """Two of them under the published key names."""

    def __init__(self, size_in: int, size_middle: int, size_out: int) -> None:
        super().__init__()
        self.basic_module = nn.Module()
        self.basic_module.SingleConv1 = SingleConv(size_in, size_middle)
        self.basic_module.SingleConv2 = SingleConv(size_middle, size_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, size_in, D, H, W) -> (B, size_out, D, H, W)."""
        out: Tensor = self.basic_module.SingleConv2(self.basic_module.SingleConv1(x))
        return out


class UNet3D(nn.Module):
    """U-Net over a feature volume.

    Args:
        c_dim: channels in and out.
        widths: channels of the levels, finest first (published: 32, 64, 128, ...).
    """

    def __init__(self, c_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [c_dim, *widths]
        self.encoders = nn.ModuleList(
            DoubleConv(a, max(a, b // 2), b) for a, b in zip(sizes, sizes[1:], strict=False)
        )
        ups = list(widths)[::-1]
        self.decoders = nn.ModuleList(DoubleConv(a + b, b, b) for a, b in zip(ups, ups[1:], strict=False))
        self.final_conv = nn.Conv3d(widths[0], c_dim, 1)

    def forward(self, grid: Tensor) -> Tensor:
        """grid (B, C, R, R, R) -> (B, C, R, R, R)."""
        x, skips = grid, []
        for i, encoder in enumerate(self.encoders):
            x = encoder(x if i == 0 else F.max_pool3d(x, 2))
            skips.append(x)
        for decoder, skip in zip(self.decoders, skips[-2::-1], strict=True):
            x = decoder(torch.cat([skip, F.interpolate(x, size=skip.shape[2:], mode="nearest")], 1))
        out: Tensor = self.final_conv(x)
        return out
