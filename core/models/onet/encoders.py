# SPDX-License-Identifier: GPL-3.0-or-later
"""Encoders of Occupancy Networks: point cloud, voxels or point samples to a code (supplementary 1.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..parts.resnet_blocks import ResnetBlockFC, linear_map

N_BLOCKS = 5


def with_maximum(x: Tensor) -> Tensor:
    """(B, T, F) -> (B, T, 2 F): each point's features beside the maximum over its cloud."""
    return torch.cat([x, x.amax(1, keepdim=True).expand_as(x)], -1)


class ResnetPointnet(nn.Module):
    """`pointnet_resnet`: residual blocks with pooling between them.

    Args:
        c_dim: width of the code.
        hidden: width of the trunk.
        dim: numbers per point (3; 6 with normals; 3 L for L stacked frames).
        pointwise: weights stored as 1x1 convolutions (Texture Fields).
    """

    def __init__(self, c_dim: int, hidden: int, dim: int = 3, pointwise: bool = False) -> None:
        super().__init__()
        self.fc_pos = linear_map(dim, 2 * hidden, pointwise)
        for i in range(N_BLOCKS):
            self.add_module(f"block_{i}", ResnetBlockFC(2 * hidden, hidden, pointwise=pointwise))
        self.fc_c = nn.Linear(hidden, c_dim)

    def forward(self, points: Tensor) -> Tensor:
        """points (B, T, dim) -> (B, c_dim)."""
        h = self.block_0(self.fc_pos(points))  # (B, T, H)
        for i in range(1, N_BLOCKS):
            h = self.get_submodule(f"block_{i}")(with_maximum(h))
        c: Tensor = self.fc_c(F.relu(h.amax(1)))
        return c


class SimplePointnet(nn.Module):
    """`pointnet_simple`: the same without residual blocks."""

    def __init__(self, c_dim: int, hidden: int, dim: int = 3) -> None:
        super().__init__()
        self.fc_pos = nn.Linear(dim, 2 * hidden)
        for i in range(4):
            self.add_module(f"fc_{i}", nn.Linear(2 * hidden, hidden))
        self.fc_c = nn.Linear(hidden, c_dim)

    def forward(self, points: Tensor) -> Tensor:
        """points (B, T, dim) -> (B, c_dim)."""
        h = self.fc_0(F.relu(self.fc_pos(points)))  # (B, T, H)
        for layer in (self.fc_1, self.fc_2, self.fc_3):
            h = layer(F.relu(with_maximum(h)))
        c: Tensor = self.fc_c(F.relu(h.amax(1)))
        return c


class VoxelEncoder(nn.Module):
    """`voxel_simple`: four strided 3-D convolutions over a 32^3 occupancy grid."""

    def __init__(self, c_dim: int) -> None:
        super().__init__()
        widths = (32, 64, 128, 256, 512)
        self.conv_in = nn.Conv3d(1, 32, 3, padding=1)
        for i in range(4):
            self.add_module(f"conv_{i}", nn.Conv3d(widths[i], widths[i + 1], 3, stride=2, padding=1))
        self.fc = nn.Linear(512 * 2 * 2 * 2, c_dim)

    def forward(self, voxels: Tensor) -> Tensor:
        """voxels (B, 32, 32, 32) 0 or 1, axes x, y, z -> (B, c_dim)."""
        h = self.conv_in(voxels[:, None])
        for layer in (self.conv_0, self.conv_1, self.conv_2, self.conv_3):
            h = layer(F.relu(h))  # halves the side: 16, 8, 4, 2
        c: Tensor = self.fc(F.relu(h).flatten(1))
        return c


class LatentEncoder(nn.Module):
    """`simple`: q(z | points, occupancies, condition) of the variational models (equation 4)."""

    def __init__(self, z_dim: int, c_dim: int = 0, hidden: int = 128, leaky: bool = False) -> None:
        super().__init__()
        self.leaky = leaky
        self.fc_pos = nn.Linear(3, hidden)
        self.fc_c = nn.Linear(c_dim, hidden) if c_dim else None
        self.fc_0 = nn.Linear(1, hidden)
        self.fc_1 = nn.Linear(hidden, hidden)
        self.fc_2 = nn.Linear(2 * hidden, hidden)
        self.fc_3 = nn.Linear(2 * hidden, hidden)
        self.fc_mean = nn.Linear(hidden, z_dim)
        self.fc_logstd = nn.Linear(hidden, z_dim)

    def forward(self, points: Tensor, occupancies: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """points (B, T, 3), occupancies (B, T), c (B, c_dim) -> mean and log standard deviation, each (B, z_dim)."""
        h = self.fc_0(occupancies[..., None]) + self.fc_pos(points)  # (B, T, H)
        if self.fc_c is not None:
            h = h + self.fc_c(c)[:, None]
        h = self.fc_1(self._act(h))
        h = self.fc_2(self._act(torch.cat([h, self._pool(h).expand_as(h)], -1)))
        h = self.fc_3(self._act(torch.cat([h, self._pool(h).expand_as(h)], -1)))
        pooled = self._pool(h)[:, 0]
        return self.fc_mean(pooled), self.fc_logstd(pooled)

    def _act(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2 * self.leaky)

    def _pool(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True) if self.leaky else x.amax(1, keepdim=True)
