# SPDX-License-Identifier: GPL-3.0-or-later
"""A trained NeRF as a field of density and colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...fields.field import Kind
from ..network_field import NetworkField
from ..parts.fourier import nerf_encoding
from ..parts.key_shapes import Shapes
from .network import NerfMlp, config_from


class NerfField(NetworkField):
    """Density per unit length and colour; pass the fine network where there are two."""

    system = "nerf"
    kind: Kind = "density"
    has_appearance = True

    @classmethod
    def of(cls, network: NerfMlp, box: list[list[float]], level: float = 25.0) -> NerfField:
        """A network and the box it was trained for ((low), (high)).

        The level, 25 per unit, is our choice: the synthetic scenes are opaque there within a tenth of a unit.
        """
        return cls(network, {}, {"box": box, "level": level})

    @classmethod
    def build(cls, shapes: Shapes, settings: Mapping[str, Any]) -> nn.Module:
        """The network."""
        return NerfMlp(config_from(shapes))

    def geometry_of(self, points: Tensor) -> Tensor:
        """Density."""
        return F.relu(self._network.density(self._position(points)))

    def colour_of(self, points: Tensor, directions: Tensor | None) -> Tensor:
        """Colours; without directions, seen along -z."""
        view = None
        if self._network.config.view_dim:
            down = points.new_tensor([0.0, 0.0, -1.0]).expand_as(points)
            octaves = (self._network.config.view_dim // 3 - 1) // 2
            view = nerf_encoding(down if directions is None else directions, octaves)
        return torch.sigmoid(self._network(self._position(points), view)[:, :3])

    def _position(self, points: Tensor) -> Tensor:
        return nerf_encoding(points, (self._network.config.position_dim // 3 - 1) // 2)

    @property
    def _network(self) -> NerfMlp:
        assert isinstance(self.network, NerfMlp)
        return self.network
