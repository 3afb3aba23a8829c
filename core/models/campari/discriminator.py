# SPDX-License-Identifier: GPL-3.0-or-later
"""CAMPARI's progressively growing discriminator with coordinate channels (supplementary 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..parts.key_shapes import Shapes, count

SLOPE = 0.2
MILESTONES = (20_000, 70_000)
FADE = 15_000
SMALLEST = 32


class CoordConv(nn.Module):
    """Convolution that also sees row and column in -1..1."""

    def __init__(self, size_in: int, size_out: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(size_in + 2, size_out, kernel, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, size_in, H, W) -> (B, size_out, H', W')."""
        grid = coordinate_channels(*x.shape[2:]).to(x).expand(len(x), -1, -1, -1)
        out: Tensor = self.conv(torch.cat([x, grid], 1))
        return out


def coordinate_channels(height: int, width: int) -> Tensor:
    """(1, 2, H, W): row, then column, -1..1."""
    return torch.stack(
        torch.meshgrid(torch.linspace(-1.0, 1.0, height), torch.linspace(-1.0, 1.0, width), indexing="ij")
    )[None]


class DownBlock(nn.Module):
    """Half the side: two 3x3 convolutions and pooling beside a strided 1x1 shortcut."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.res = CoordConv(size_in, size_out, 1, 2)
        activation = nn.LeakyReLU(SLOPE)
        self.net = nn.Sequential(
            CoordConv(size_in, size_out, 3, 1, 1),
            activation,
            CoordConv(size_out, size_out, 3, 1, 1),
            activation,
            nn.AvgPool2d(2, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, size_in, H, W) -> (B, size_out, H / 2, W / 2)."""
        y: Tensor = self.net(x) + self.res(x)
        return y


class CampariDiscriminator(nn.Module):
    """Pictures of 32, 64 or 128 pixels to logits.

    Args:
        widths: channels (published: 64, 128, 256, 400, 400, 400).
        stages: sizes it grows through.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 400, 400, 400), stages: int = 3) -> None:
        super().__init__()
        self.stages = stages
        self.net = nn.ModuleList(DownBlock(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.n_pg_mappings = nn.ModuleList(CoordConv(3, width, 1) for width in widths[:stages])
        self.conv_out = CoordConv(widths[-1], 1, 4)

    def forward(self, image: Tensor, iteration: int) -> Tensor:
        """image (B, 3, S, S) in 0..1 -> logits (B,); the iteration sets how far the newest stage is faded in."""
        x = 2.0 * image - 1.0
        stage = (image.shape[-1] // SMALLEST).bit_length() - 1  # 0, 1, 2 for 32, 64, 128
        first = self.stages - 1 - stage
        h = F.leaky_relu(self.n_pg_mappings[first](x), SLOPE)
        if stage:
            old, new = blend(iteration)
            half = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=True)
            coarse = F.leaky_relu(self.n_pg_mappings[first + 1](half), SLOPE)
            h = old * coarse + new * self.net[first](h)
            first += 1
        for block in list(self.net)[first:]:
            h = block(h)
        return self.conv_out(h).flatten()


def blend(iteration: int) -> tuple[float, float]:
    """Weights of the coarser and of the newest stage."""
    passed = [milestone for milestone in MILESTONES if iteration > milestone]
    new = min(max((iteration - passed[-1]) / FADE, 0.0), 1.0) if passed else 0.0
    return 1.0 - new, new


def discriminator_from(shapes: Shapes) -> CampariDiscriminator:
    """The discriminator whose key shapes these are."""
    n = count(shapes, "net.{}.res.conv.weight")
    widths = [shapes["net.0.res.conv.weight"][1] - 2] + [
        shapes[f"net.{i}.res.conv.weight"][0] for i in range(n)
    ]
    return CampariDiscriminator(widths, count(shapes, "n_pg_mappings.{}.conv.weight"))
