# SPDX-License-Identifier: GPL-3.0-or-later
"""Encoders of Convolutional Occupancy Networks: points or voxels to feature planes and grids (section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..parts.resnet_blocks import ResnetBlockFC
from .features import Pooling, as_map, cell_index, normalise, pool_locally, scatter
from .unets import UNet, UNet3D

Resolutions = Mapping[str, int]
"""Active maps (`xz`, `xy`, `yz`, `grid`) and their sides."""
Maps = dict[str, Tensor]


class Refinement(nn.Module):
    """The U-Nets behind an encoder; planes share one."""

    def __init__(self, c_dim: int, widths: Sequence[int], widths3d: Sequence[int]) -> None:
        super().__init__()
        if widths:
            self.unet = UNet(c_dim, widths)
        if widths3d:
            self.unet3d = UNet3D(c_dim, widths3d)

    def refine(self, maps: Maps) -> Maps:
        """Each map through its U-Net, where there is one."""
        names = {name: "unet3d" if name == "grid" else "unet" for name in maps}
        return {n: getattr(self, names[n])(m) if hasattr(self, names[n]) else m for n, m in maps.items()}


class LocalPoolPointnet(Refinement):
    """`pointnet_local_pool`: a PointNet whose pooling stays inside the cells of the maps."""

    def __init__(
        self,
        c_dim: int,
        hidden: int,
        resolutions: Resolutions,
        widths: Sequence[int] = (),
        widths3d: Sequence[int] = (),
        pooling: Pooling = "max",
        n_blocks: int = 5,
    ) -> None:
        super().__init__(c_dim, widths, widths3d)
        self.resolutions, self.pooling = dict(resolutions), pooling
        self.fc_pos = nn.Linear(3, 2 * hidden)
        self.blocks = nn.ModuleList(ResnetBlockFC(2 * hidden, hidden) for _ in range(n_blocks))
        self.fc_c = nn.Linear(hidden, c_dim)

    def forward(self, points: Tensor) -> Maps:
        """points (B, T, 3) -> map name -> (B, C, R, R) or (B, C, R, R, R)."""
        index = {n: cell_index(normalise(points, n), r) for n, r in self.resolutions.items()}
        cells = {n: r ** (3 if n == "grid" else 2) for n, r in self.resolutions.items()}
        c = self.point_features(points, index, cells)
        return self.refine(
            {n: as_map(c, index[n], r, 3 if n == "grid" else 2) for n, r in self.resolutions.items()}
        )

    def point_features(self, x: Tensor, index: Mapping[str, Tensor], cells: Mapping[str, int]) -> Tensor:
        """x (B, T, 3) and the cells of each point -> (B, T, C)."""
        h = self.blocks[0](self.fc_pos(x))  # (B, T, H)
        for block in list(self.blocks)[1:]:
            pooled = torch.stack([pool_locally(h, index[n], cells[n], self.pooling) for n in index]).sum(0)
            h = block(torch.cat([h, pooled], -1))
        c: Tensor = self.fc_c(h)
        return c


class CropLocalPoolPointnet(LocalPoolPointnet):
    """`pointnet_crop_local_pool`: one crop of a scene; positions enter modulo the size of a voxel.

    Args:
        unit: edge of a voxel in scene units.
    """

    def __init__(
        self, c_dim: int, hidden: int, resolution: int, widths3d: Sequence[int], unit: float
    ) -> None:
        super().__init__(c_dim, hidden, {"grid": resolution}, (), widths3d)
        self.unit = unit

    def crop(self, points: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """points (1, T, 3) float64 of the scene, volume `low`, `high` (3,) -> (1, C, R, R, R).

        Points outside the volume go to a cell that is thrown away.
        """
        resolution = self.resolutions["grid"]
        inside = ((points >= low) & (points < high)).all(-1)
        v = (points - low) / (high - low)
        index = torch.where(inside, cell_index(v, resolution), resolution**3)
        cells = resolution**3 + 1
        c = self.point_features(local_coordinates(points, self.unit), {"grid": index}, {"grid": cells})
        grid = scatter(c, index, cells, "mean")[:, :-1].mT
        return self.refine({"grid": grid.reshape(1, -1, *[resolution] * 3)})["grid"]


def local_coordinates(points: Tensor, unit: float) -> Tensor:
    """Position within a voxel of edge `unit`, 0..1, float32; published as (p mod unit) / unit in float64."""
    return (torch.remainder(points, unit) / unit).float()


class LocalVoxelEncoder(Refinement):
    """`voxel_simple_local`: one convolution, each voxel becomes a point."""

    def __init__(
        self, c_dim: int, resolutions: Resolutions, widths: Sequence[int] = (), widths3d: Sequence[int] = ()
    ) -> None:
        super().__init__(c_dim, widths, widths3d)
        self.resolutions = {n: r for n, r in resolutions.items() if n == "grid" or "grid" not in resolutions}
        self.conv_in = nn.Conv3d(1, c_dim, 3, padding=1)

    def forward(self, voxels: Tensor) -> Maps:
        """voxels (B, D, D, D), axes x, y, z -> maps as `LocalPoolPointnet`."""
        line = torch.linspace(-0.5, 0.5, voxels.shape[1], device=voxels.device)
        p = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(1, -1, 3)
        c = F.relu(self.conv_in(voxels[:, None])).flatten(2).mT  # (B, D^3, C)
        p = p.expand(len(voxels), -1, -1)
        maps = {}
        for name, resolution in self.resolutions.items():
            index = cell_index(normalise(p, name), resolution)
            maps[name] = as_map(c, index, resolution, 3 if name == "grid" else 2)
        return self.refine(maps)
