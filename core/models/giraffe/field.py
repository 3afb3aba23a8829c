# SPDX-License-Identifier: GPL-3.0-or-later
"""One object of a GIRAFFE scene as a field in its own box: density alone, the colours are made from the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ...fields.field import Kind
from ..network_field import NetworkField, cube
from ..parts.key_shapes import Shapes
from .decoder import FeatureField, field_config_from
from .generator import BOX, DOWNSCALE, Giraffe


class GiraffeObjectField(NetworkField):
    """Density in the object's frame, |p| <= 1.1 per axis."""

    system = "giraffe"
    kind: Kind = "density"

    @classmethod
    def of(cls, network: Giraffe, z_shape: Tensor, level: float = 10.0) -> GiraffeObjectField:
        """Bind the object field to a shape code (1, z_dim); the level is our choice."""
        return cls(network.decoder, {"z": z_shape}, {"box": cube(BOX), "level": level})

    @classmethod
    def build(cls, shapes: Shapes, settings: Mapping[str, Any]) -> nn.Module:
        """The object field."""
        return FeatureField(field_config_from(shapes, DOWNSCALE))

    def geometry_of(self, points: Tensor) -> Tensor:
        """Density; zero outside the box."""
        assert isinstance(self.network, FeatureField)
        density = F.relu(self.network.density(points[None], self.codes["z"])[0])
        return density * (points.abs() <= BOX).all(-1)
