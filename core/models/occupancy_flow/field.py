# SPDX-License-Identifier: GPL-3.0-or-later
"""Occupancy Flow at one moment as a field: points go back to t = 0, where the occupancy is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..network_field import NetworkField, cube
from ..parts.key_shapes import Shapes
from .network import OccupancyFlow, config_from


class FlowField(NetworkField):
    """Occupancy without colour at the time `settings["time"]`, 0..1.

    For a sequence, extract at time 0 and carry the vertices with `OccupancyFlow.move`: the topology stays the same.
    """

    system = "occupancy_flow"

    @classmethod
    def of(cls, network: OccupancyFlow, frames: Tensor, time: float = 0.0) -> FlowField:
        """Bind a network to a sequence of clouds (1, L, T, 3)."""
        with torch.no_grad():
            shape, motion = network.encode(frames)
        settings = {"box": cube(0.55), "level": network.config.threshold, "time": time}
        return cls(network, {"shape": shape, "motion": motion}, settings)

    @classmethod
    def build(cls, shapes: Shapes, settings: Mapping[str, Any]) -> nn.Module:
        """The whole network."""
        return OccupancyFlow(config_from(shapes))

    def geometry_of(self, points: Tensor) -> Tensor:
        """Probability of being inside at the field's time."""
        network, p, time = self.network, points[None], float(self.settings["time"])
        assert isinstance(network, OccupancyFlow)
        if time:
            start = torch.full((1,), time, device=p.device)
            p = network.move(p, self.codes["motion"], [time], start)[0][:, 0]
        return torch.sigmoid(network.logits(p, p.new_zeros(1, 0), self.codes["shape"])[0])
