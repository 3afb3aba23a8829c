# SPDX-License-Identifier: GPL-3.0-or-later
"""An Occupancy Network with its codes as a field: probability of being inside, in the cube of edge 1.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..network_field import NetworkField, cube
from ..parts.key_shapes import Shapes
from .decoders import decoder_config_from, decoder_from
from .network import OccupancyNetwork


class OnetField(NetworkField):
    """Occupancy without colour."""

    system = "onet"

    @classmethod
    def of(cls, network: OccupancyNetwork, inputs: Tensor | None, z: Tensor | None = None) -> OnetField:
        """Bind a network to one input (batch of one) and a latent code, zero by default."""
        with torch.no_grad():
            codes = {"c": network.encode(inputs), "z": network.prior(1) if z is None else z}
        config = network.config
        settings = {"box": cube(0.55), "level": config.threshold, "leaky": config.decoder.leaky}
        return cls(network.decoder, codes, settings)

    @classmethod
    def build(cls, shapes: Shapes, settings: Mapping[str, Any]) -> nn.Module:
        """The decoder."""
        return decoder_from(decoder_config_from(shapes, settings["leaky"]))

    def geometry_of(self, points: Tensor) -> Tensor:
        """Probability of being inside."""
        return torch.sigmoid(self.network(points[None], self.codes["z"], self.codes["c"])[0])
