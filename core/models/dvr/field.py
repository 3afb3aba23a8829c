# SPDX-License-Identifier: GPL-3.0-or-later
"""A DVR network with its code as a field of occupancy and colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..network_field import NetworkField, cube
from ..parts.conditioned_mlp import conditioned_mlp_from
from ..parts.key_shapes import Shapes
from .network import DvrNetwork


class DvrField(NetworkField):
    """Occupancy and, where the network has it, colour in the cube of edge 1.1."""

    system = "dvr"

    def __init__(self, network: nn.Module, codes: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
        super().__init__(network, codes, settings)
        self.has_appearance = settings["colour"]

    @classmethod
    def of(cls, network: DvrNetwork, image: Tensor | None) -> DvrField:
        """Bind a network to a picture (1, 3, 224, 224), or to nothing where it holds one object."""
        with torch.no_grad():
            c = network.encode(image)
        config = network.config
        settings = {"box": cube(0.55), "level": config.threshold, "colour": config.out_dim > 1}
        return cls(network.decoder, {} if c is None else {"c": c}, settings)

    @classmethod
    def build(cls, shapes: Shapes, settings: Mapping[str, Any]) -> nn.Module:
        """The decoder."""
        return conditioned_mlp_from(shapes)

    def geometry_of(self, points: Tensor) -> Tensor:
        """Probability of being inside."""
        return torch.sigmoid(self.network(points[None], self.codes.get("c"))[0, :, 0])

    def colour_of(self, points: Tensor, directions: Tensor | None) -> Tensor:
        """Colours; they do not depend on the direction."""
        return torch.sigmoid(self.network(points[None], self.codes.get("c"))[0, :, 1:])
