# SPDX-License-Identifier: GPL-3.0-or-later
"""CAMPARI's foreground with its code as a field of density and colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ...fields.field import Kind
from ..network_field import NetworkField, cube
from ..parts.key_shapes import Shapes
from .decoder import RadianceField, field_config_from
from .generator import Campari


class CampariField(NetworkField):
    """Density and colour; near and far lie half a unit around the origin."""

    system = "campari"
    kind: Kind = "density"
    has_appearance = True

    @classmethod
    def of(cls, network: Campari, z: Tensor, level: float = 10.0) -> CampariField:
        """Bind the foreground to a code z (1, c_dim); the level is our choice."""
        return cls(network.decoder, {"z": z}, {"box": cube(0.5), "level": level})

    @classmethod
    def build(cls, shapes: Shapes, settings: Mapping[str, Any]) -> nn.Module:
        """The foreground field."""
        return RadianceField(field_config_from(shapes))

    def geometry_of(self, points: Tensor) -> Tensor:
        """Density."""
        assert isinstance(self.network, RadianceField)
        return self.network.density(points, self.codes["z"])

    def colour_of(self, points: Tensor, directions: Tensor | None) -> Tensor:
        """Colours; without directions, seen from outside towards the vertical axis."""
        if directions is None:
            directions = F.normalize(-points * points.new_tensor([1.0, 1.0, 0.0]), dim=-1)
        colours: Tensor = self.network(points, directions, self.codes["z"])[1]
        return colours
