# SPDX-License-Identifier: GPL-3.0-or-later
"""A GRAF generator with its code as a field of density and colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...fields.field import Kind
from ..nerf.network import NerfMlp, config_from
from ..network_field import NetworkField, cube
from ..parts.fourier import nerf_encoding
from ..parts.key_shapes import Shapes
from .generator import OCTAVES, evaluate, has_views, shape_dim

HALF_EDGE = 2.5
"""Of the box: the shell between near and far, 7.5 and 12.5 from a camera at distance 10."""


class GrafField(NetworkField):
    """Density and colour of one object of the class."""

    system = "graf"
    kind: Kind = "density"
    has_appearance = True

    @classmethod
    def of(cls, network: NerfMlp, z: Tensor, level: float = 10.0) -> GrafField:
        """Bind a generator to a code z (1, z_dim); the level, 10 per unit, is our choice."""
        return cls(network, {"z": z}, {"box": cube(HALF_EDGE), "level": level})

    @classmethod
    def build(cls, shapes: Shapes, settings: Mapping[str, Any]) -> nn.Module:
        """The network."""
        return NerfMlp(config_from(shapes))

    def geometry_of(self, points: Tensor) -> Tensor:
        """Density."""
        network, z = self.network, self.codes["z"]
        assert isinstance(network, NerfMlp)
        return F.relu(network.density(nerf_encoding(points, OCTAVES), z[:, : shape_dim(network)]))

    def colour_of(self, points: Tensor, directions: Tensor | None) -> Tensor:
        """Colours; without directions, seen from outside towards the vertical axis."""
        return torch.sigmoid(self._raw(points, directions)[:, :3])

    def _raw(self, points: Tensor, directions: Tensor | None) -> Tensor:
        network, z = self.network, self.codes["z"]
        assert isinstance(network, NerfMlp)
        if directions is None:
            directions = F.normalize(-points * points.new_tensor([1.0, 1.0, 0.0]), dim=-1)
        views = directions if has_views(network, z.shape[1]) else None
        return evaluate(network, points[:, None], views, z)[:, 0]
