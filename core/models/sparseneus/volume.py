# SPDX-License-Identifier: GPL-3.0-or-later
"""Cost volume of the pictures' features and the sparse 3D network on it, as masked dense convolutions.

The original uses sparse convolutions (torchsparse). With a mask per level a dense convolution gives the same numbers
without a compiled extension: 884,736 voxels hold about 86 % active ones anyway. Long et al. 2022, section 3.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from .normalisation import MaskedNorm, Statistics

_LOW, _HIGH = 1, 2
"""Zeros below and above each axis before a stride of 2: a strided layer also makes a cell beyond the upper border."""


def voxel_points(size: tuple[int, int, int], voxel: float, device: torch.device) -> Tensor:
    """Positions of voxel centres (X*Y*Z, 3), x slowest; index 0 lies at -1."""
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in size]
    return torch.cartesian_prod(*axes) * voxel - 1


def project(
    points: Tensor, affine: Tensor, width: int, height: int, least_depth: float
) -> tuple[Tensor, Tensor]:
    """points (N, 3), affine (4, 4) = K [R | t] -> (N, 2) in -1..1 over the pixel centres' span, z-depth (N,)."""
    pixels = points @ affine[:3, :3].T + affine[:3, 3]
    depth = pixels[:, 2]
    safe = torch.where(depth >= 0, depth.clamp(min=least_depth), depth)
    uv = pixels[:, :2] / safe[:, None]
    return uv * (2 / uv.new_tensor([width - 1, height - 1])) - 1, depth


def cost_volume(
    features: Tensor, affine: Tensor, size: tuple[int, int, int], voxel: float
) -> tuple[Tensor, Tensor]:
    """Variance and mean of the views' features in every voxel that more than one view sees.

    Args:
        features: (V, C, H, W) compressed features.
        affine: (V, 4, 4) world to pixels of the H x W pictures.
        size: voxels along x, y, z.
        voxel: side of a voxel; index 0 lies at -1.

    Returns:
        Volume (1, 2C, X, Y, Z), zero in other voxels, and the mask (1, 1, X, Y, Z) float of zeros and ones.

    Raises:
        InputError: VIEWS_APART when no voxel is seen by two views.
    """
    height, width = features.shape[2:]
    points = voxel_points(size, voxel, features.device)
    count = torch.zeros(len(points), device=features.device)
    for matrix in affine:
        count += _visible(*project(points, matrix, width, height, 1e-6))
    active = (count > 1).nonzero()[:, 0]  # (M,)
    if not len(active):
        raise InputError(
            "VIEWS_APART",
            "No part of the object is seen by two of the pictures.",
            "Check the cameras of the pictures.",
        )
    total = features.new_zeros(features.shape[1], len(active))
    squares = torch.zeros_like(total)
    for view, matrix in zip(features, affine, strict=True):
        uv, _ = project(points[active], matrix, width, height, 1e-6)
        sampled = F.grid_sample(view[None], uv[None, None], align_corners=True)[
            0, :, 0
        ]  # (C, M), zero outside
        total += sampled
        squares += sampled.square()
    share = 1 / (count[active] + 1e-5)
    mean = share * total
    volume = features.new_zeros(2 * len(mean), len(points))
    volume[:, active] = torch.cat([share * squares - mean.square(), mean])
    mask = features.new_zeros(1, len(points))
    mask[:, active] = 1
    return volume.view(1, -1, *size), mask.view(1, 1, *size)


def _visible(uv: Tensor, depth: Tensor) -> Tensor:
    return (uv.abs() <= 1).all(1) & (depth > 0)


class SparseConv(nn.Module):
    """3^3 kernel stored as 27 matrices, x fastest: row 9 (dz + 1) + 3 (dy + 1) + (dx + 1)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(27, channels, out))

    def dense(self) -> Tensor:
        """(out, in, x, y, z)."""
        return self.kernel.unflatten(0, (3, 3, 3)).permute(4, 3, 2, 1, 0)


class SparseBlock(nn.Module):
    """Convolution, batch norm over active voxels, ReLU. `net.0.kernel`, `net.1.*` in the checkpoint."""

    def __init__(self, channels: int, out: int, kind: str = "same") -> None:
        super().__init__()
        self.kind = kind
        self.net = nn.ModuleList([SparseConv(channels, out), MaskedNorm(out)])

    def forward(self, x: Tensor, mask: Tensor, statistics: Statistics) -> Tensor:
        """x (1, channels, ...), mask (1, 1, X, Y, Z) of the result -> (1, out, X, Y, Z)."""
        weight = self.net[0].dense()
        if self.kind == "down":
            y = F.conv3d(F.pad(x, (_LOW, _HIGH) * 3), weight, stride=2)
        elif self.kind == "up":
            y = F.conv_transpose3d(x, weight.transpose(0, 1), stride=2, padding=1)
            y = y[..., : mask.shape[2], : mask.shape[3], : mask.shape[4]]
        else:
            y = F.conv3d(x, weight, padding=1)
        return self.net[1](y, mask, statistics)


def coarser(mask: Tensor) -> Tensor:
    """Mask of the next level: cells within one voxel of an active one, except below the lowest active voxel."""
    padded = F.pad(mask, (_LOW, _HIGH) * 3)
    out = F.max_pool3d(padded, 3, stride=2)  # n -> floor(n/2) + 1
    for axis in (2, 3, 4):
        others = [a for a in range(5) if a != axis]
        lowest = mask.amax(others).nonzero()[0, 0]
        keep = 2 * torch.arange(out.shape[axis], device=mask.device) >= lowest
        out = out * keep.view([-1 if a == axis else 1 for a in range(5)])
    return out


class SparseNetwork(nn.Module):
    """U-Net over three halvings; a 96^3 volume has levels of 96, 49, 25 and 13 cells."""

    def __init__(
        self, channels: int = 32, out: int = 16, widths: tuple[int, int, int] = (16, 32, 64)
    ) -> None:
        super().__init__()
        a, b, c = widths
        self.conv0 = SparseBlock(channels, out)
        self.conv1, self.conv2 = SparseBlock(out, a, "down"), SparseBlock(a, a)
        self.conv3, self.conv4 = SparseBlock(a, b, "down"), SparseBlock(b, b)
        self.conv5, self.conv6 = SparseBlock(b, c, "down"), SparseBlock(c, c)
        self.conv7, self.conv9 = SparseBlock(c, b, "up"), SparseBlock(b, a, "up")
        self.conv11 = SparseBlock(a, out, "up")

    def forward(self, x: Tensor, mask: Tensor, statistics: Statistics = "batch") -> Tensor:
        """x (1, channels, X, Y, Z), mask (1, 1, X, Y, Z) -> (1, out, X, Y, Z), zero outside the mask."""
        half = coarser(mask)
        quarter = coarser(half)
        eighth = coarser(quarter)
        x0 = self.conv0(x, mask, statistics)
        x1 = self.conv2(self.conv1(x0, half, statistics), half, statistics)
        x2 = self.conv4(self.conv3(x1, quarter, statistics), quarter, statistics)
        x3 = self.conv6(self.conv5(x2, eighth, statistics), eighth, statistics)
        x2 = x2 + self.conv7(x3, quarter, statistics)
        x1 = x1 + self.conv9(x2, half, statistics)
        return x0 + self.conv11(x1, mask, statistics)
