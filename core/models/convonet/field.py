# SPDX-License-Identifier: GPL-3.0-or-later
"""A Convolutional Occupancy Network with its feature maps as a field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..network_field import NetworkField, cube
from ..parts.conditioned_mlp import conditioned_mlp_from
from ..parts.key_shapes import Shapes
from .features import normalise, sample
from .network import ConvOccupancyNetwork
from .pointnet2 import sample_points


class ConvonetField(NetworkField):
    """Occupancy without colour in the cube of edge 1.1."""

    system = "convonet"

    @classmethod
    def of(cls, network: ConvOccupancyNetwork, inputs: Tensor) -> ConvonetField:
        """Bind a network to one input (batch of one): points or voxels."""
        with torch.no_grad():
            maps = network.encode(inputs)
        its = network.settings
        settings = {"box": cube(0.55), "level": its.threshold, "leaky": its.leaky, "mode": its.sample_mode}
        return cls(network.decoder, maps, settings)

    @classmethod
    def build(cls, shapes: Shapes, settings: Mapping[str, Any]) -> nn.Module:
        """The decoder."""
        return conditioned_mlp_from(shapes, settings["leaky"])

    def geometry_of(self, points: Tensor) -> Tensor:
        """Probability of being inside."""
        p, maps = points[None], self.codes
        if "points" in maps:
            c = sample_points(maps["points"], maps["features"], p)
        else:
            read = [sample(m, normalise(p, name), self.settings["mode"]) for name, m in maps.items()]
            c = torch.stack(read).sum(0)
        return torch.sigmoid(self.network(p, c)[0, :, 0])
