# SPDX-License-Identifier: GPL-3.0-or-later
"""GRAF's patch discriminator and its patches (section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm


class PatchDiscriminator(nn.Module):
    """Four spectrally normalised convolutions over a 32 x 32 patch; the patch's scale is not given to it.

    Args:
        widths: channels (published: 128, 256, 512).
    """

    def __init__(self, widths: Sequence[int] = (128, 256, 512)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size_in, size_out in zip((3, *widths), widths, strict=False):
            conv = nn.Conv2d(size_in, size_out, 4, 2, 1, bias=False)
            layers += [spectral_norm(conv), nn.InstanceNorm2d(size_out), nn.LeakyReLU(0.2)]
        layers.append(spectral_norm(nn.Conv2d(widths[-1], 1, 4, bias=False)))
        self.main = nn.Sequential(*layers)

    def forward(self, points: Tensor) -> Tensor:
        """points (B * 1024, 3) in -1..1, rows of a patch one after the other -> logits (B,)."""
        side = 2 ** (len(self.main) // 3 + 2)
        patch = points.reshape(-1, side, side, 3).permute(0, 3, 1, 2)
        logits: Tensor = self.main(patch)
        return logits.flatten()


def least_scale(iteration: int, least: float = 0.25, anneal: float = 0.0025) -> float:
    """Smallest patch scale: min(0.9, max(least, exp(-anneal 3 floor(iteration / 1000))))."""
    return min(0.9, max(least, math.exp(-anneal * 3 * (iteration // 1000))))


def base_lattice(side: int) -> tuple[Tensor, Tensor]:
    """h and w, each (side, side): h runs along the columns, w along the rows, -1..1."""
    line = torch.linspace(-1.0, 1.0, side)
    w, h = torch.meshgrid(line, line, indexing="ij")
    return h, w


def patch_lattice(side: int, scale: float, offset_h: float, offset_w: float) -> Tensor:
    """(side, side, 2) sampling positions (h, w), x and y of `grid_sample`."""
    h, w = base_lattice(side)
    return torch.stack([h * scale + offset_h, w * scale + offset_w], -1)


def random_patch(side: int, least: float, generator: torch.Generator | None = None) -> tuple[Tensor, float]:
    """A patch of random scale and place: (side, side, 2) and its scale. Draws in the published order."""
    scale = float(torch.empty(1).uniform_(least, 1.0, generator=generator))
    offsets = []
    for _ in range(2):
        size = torch.empty(1).uniform_(0.0, 1.0 - scale, generator=generator)
        sign = (torch.randint(2, (1,), generator=generator).float() - 0.5) * 2.0
        offsets.append(float(size * sign))
    return patch_lattice(side, scale, offsets[0], offsets[1]), scale


def sample_patch(values: Tensor, lattice: Tensor) -> Tensor:
    """values (B, C, H, W) at a lattice (side, side, 2) -> (B, C, side, side), bilinear, corners aligned."""
    grid = lattice.expand(len(values), *lattice.shape)
    return F.grid_sample(values, grid, mode="bilinear", align_corners=True)
