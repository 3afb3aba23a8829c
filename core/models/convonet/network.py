# SPDX-License-Identifier: GPL-3.0-or-later
"""Convolutional Occupancy Networks (Peng et al., ECCV 2020): features on planes or grids, read at each query point.

Layout of the public checkpoints of convolutional_occupancy_networks. Resolutions of the maps, pooling and the size of a
crop's voxels are not visible in the weights; everything else is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ..parts.conditioned_mlp import ConditionedMlp, conditioned_mlp_from
from ..parts.key_shapes import Shapes, count, under
from .encoders import (
    CropLocalPoolPointnet,
    LocalPoolPointnet,
    LocalVoxelEncoder,
    Maps,
    Resolutions,
    local_coordinates,
)
from .features import Pooling, normalise, sample
from .pointnet2 import SAMPLINGS, PointNetPlusPlus, Sampling, sample_points

Kind = Literal["points", "voxels", "crop", "pointconv"]
PLANES_64: Resolutions = {"xz": 64, "xy": 64, "yz": 64}
PLANES_128: Resolutions = {"xz": 128, "xy": 128, "yz": 128}


@dataclass(frozen=True)
class ConvonetSettings:
    """What the weights do not say."""

    resolutions: Mapping[str, int] = field(default_factory=lambda: dict(PLANES_64))
    """Active maps and their sides; `xz` is the ground plane."""
    pooling: Pooling = "max"
    """Inside the cells, between the encoder's blocks."""
    sample_mode: Literal["bilinear", "nearest"] = "bilinear"
    leaky: bool = False
    crop: bool = False
    """Trained on crops of scenes: positions are taken modulo `unit`."""
    unit: float = 0.005
    """Edge of a crop's voxel, scene units."""
    samplings: tuple[Sampling, Sampling] = SAMPLINGS
    """Centres and neighbourhoods of the `pointconv` encoder."""
    threshold: float = 0.2
    """Probability on the surface."""


PUBLISHED = {
    "pointcloud/shapenet_1plane": ConvonetSettings({"xz": 64}),
    "pointcloud/shapenet_3plane": ConvonetSettings(),
    "pointcloud/shapenet_3plane_partial": ConvonetSettings(),
    "pointcloud/shapenet_grid32": ConvonetSettings({"grid": 32}),
    "pointcloud/shapenet_pointconv": ConvonetSettings({}),
    "pointcloud/room_1plane": ConvonetSettings({"xz": 128}),
    "pointcloud/room_3plane": ConvonetSettings(PLANES_128),
    "pointcloud/room_grid32": ConvonetSettings({"grid": 32}),
    "pointcloud/room_grid64": ConvonetSettings({"grid": 64}),
    "pointcloud/room_combine": ConvonetSettings({**PLANES_128, "grid": 32}),
    "pointcloud/room_pointconv": ConvonetSettings({}),
    "pointcloud_crop/room_grid64": ConvonetSettings({"grid": 88}, crop=True),
    "voxel/shapenet_1plane": ConvonetSettings({"xz": 64}),
    "voxel/shapenet_3plane": ConvonetSettings(),
    "voxel/shapenet_grid32": ConvonetSettings({"grid": 32}),
}
"""The public configurations, named as their config files."""


class ConvOccupancyNetwork(nn.Module):
    """Encoder and local decoder.

    Args:
        shapes: key shapes of the checkpoint; they name every width.
        settings: the rest.
    """

    def __init__(self, shapes: Shapes, settings: ConvonetSettings) -> None:
        super().__init__()
        self.settings = settings
        self.kind = kind_of(shapes, settings)
        self.decoder: ConditionedMlp = conditioned_mlp_from(under(shapes, "decoder."), settings.leaky)
        self.encoder = encoder_from(under(shapes, "encoder."), self.kind, settings)

    def encode(self, inputs: Tensor) -> Maps:
        """Points (B, T, 3) or voxels (B, D, D, D) -> feature maps; `points` and `features` for pointconv."""
        if self.kind == "pointconv":
            points, features = self.encoder(inputs)
            return {"points": points, "features": features}
        maps: Maps = self.encoder(inputs)
        return maps

    def decode(self, p: Tensor, maps: Maps) -> Tensor:
        """p (B, T, 3) and the maps -> logits (B, T): equation 1."""
        if self.kind == "pointconv":
            c = sample_points(maps["points"], maps["features"], p)
        else:
            mode = self.settings.sample_mode
            c = torch.stack([sample(m, normalise(p, name), mode) for name, m in maps.items()]).sum(0)
        return self.decoder(p, c)[..., 0]

    def decode_crop(self, p: Tensor, grid: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """p (1, T, 3) float64 of a scene and the grid of the volume `low` .. `high` -> logits (1, T)."""
        c = sample(grid, ((p - low) / (high - low)).float())
        return self.decoder(local_coordinates(p, self.settings.unit), c)[..., 0]

    def forward(self, p: Tensor, inputs: Tensor) -> Tensor:
        """p (B, T, 3) and the input -> logits (B, T)."""
        return self.decode(p, self.encode(inputs))


def kind_of(shapes: Shapes, settings: ConvonetSettings) -> Kind:
    """Which of the four encoders the keys belong to; crops look like points and need the settings' word."""
    if "encoder.sa1.mlp_convs.0.weight" in shapes:
        return "pointconv"
    if "encoder.conv_in.weight" in shapes:
        return "voxels"
    return "crop" if settings.crop else "points"


def encoder_from(shapes: Shapes, kind: Kind, settings: ConvonetSettings) -> nn.Module:
    """The encoder whose key shapes (without `encoder.`) these are."""
    if kind == "pointconv":
        return PointNetPlusPlus(shapes, settings.samplings)
    planes = [
        f"unet.down_convs.{i}.conv1.weight" for i in range(count(shapes, "unet.down_convs.{}.conv1.weight"))
    ]
    volume = "unet3d.encoders.{}.basic_module.SingleConv2.conv.weight"
    widths = [shapes[key][0] for key in planes]
    widths3d = [shapes[volume.format(i)][0] for i in range(count(shapes, volume))]
    if kind == "voxels":
        return LocalVoxelEncoder(shapes["conv_in.weight"][0], settings.resolutions, widths, widths3d)
    c_dim, hidden = shapes["fc_c.weight"]
    n_blocks = count(shapes, "blocks.{}.fc_0.weight")
    if kind == "crop":
        return CropLocalPoolPointnet(c_dim, hidden, settings.resolutions["grid"], widths3d, settings.unit)
    return LocalPoolPointnet(
        c_dim, hidden, settings.resolutions, widths, widths3d, settings.pooling, n_blocks
    )
