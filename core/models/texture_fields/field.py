# SPDX-License-Identifier: GPL-3.0-or-later
"""A Texture Field with its codes: colour of a given shape, no geometry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..network_field import NetworkField, cube
from ..parts.key_shapes import Shapes, count
from .network import ColourDecoder, TextureField, TextureFieldConfig


class TextureFieldColours(NetworkField):
    """Colour in the unit cube."""

    system = "texture_fields"
    has_geometry = False
    has_appearance = True

    @classmethod
    def of(cls, network: TextureField, points: Tensor, normals: Tensor, z: Tensor) -> TextureFieldColours:
        """Bind a network to a shape (1, T, 3 each) and a code z (1, z_dim) of a picture or drawn."""
        with torch.no_grad():
            codes = {"c": network.encode_shape(points, normals), "z": z}
        return cls(network.decoder, codes, {"box": cube(0.55), "level": 0.5})

    @classmethod
    def build(cls, shapes: Shapes, settings: Mapping[str, Any]) -> nn.Module:
        """The decoder; its two codes enter side by side, so their split does not matter here."""
        hidden, codes = shapes["fc_cz_0.weight"]
        return ColourDecoder(TextureFieldConfig(codes, 0, hidden, count(shapes, "block{}.conv_0.weight")))

    def colour_of(self, points: Tensor, directions: Tensor | None) -> Tensor:
        """Colours."""
        colours: Tensor = self.network(points[None], self.codes["c"], self.codes["z"])
        return colours[0]

    def geometry_of(self, points: Tensor) -> Tensor:
        """No geometry: zero everywhere."""
        return torch.zeros_like(points[:, 0])
