# SPDX-License-Identifier: GPL-3.0-or-later
"""CAMPARI's radiance fields (Niemeyer & Geiger, 3DV 2021) with the two quirks of the published ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..parts.fourier import nerf_encoding
from ..parts.key_shapes import Shapes, count
from ..parts.rows import RowLinear


@dataclass(frozen=True)
class FieldConfig:
    """Widths of a field."""

    hidden: int = 128
    c_dim: int = 256
    """Shape code, then appearance code, a half each."""
    dim: int = 3
    """Coordinates: 3, or 4 for the background's inverted sphere."""
    octaves: int = 10
    view_octaves: int = 4
    n_blocks: int = 8


class RadianceField(nn.Module):
    """(p, direction, codes) -> density, colour.

    `skips` and `skips_c` stand in the checkpoints and are never applied; and the view branch receives the activated
    features, because the published activation works in place.
    """

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.config = config
        hidden, half = config.hidden, config.c_dim // 2
        position = config.dim * (1 + 2 * config.octaves)
        self.fc_in = RowLinear(position, hidden)
        self.blocks = nn.ModuleList(RowLinear(hidden, hidden) for _ in range(config.n_blocks))
        self.fc_c = nn.Linear(half, hidden)
        self.skips = nn.ModuleList([nn.Linear(position, hidden)])
        self.skips_c = nn.ModuleList([nn.Linear(half, hidden)])
        self.fc_out = nn.Linear(hidden, 1)
        self.fc_view_c = nn.Linear(half, hidden)
        self.net_view = nn.Sequential(nn.ReLU(), nn.Linear(hidden, 3))
        self.fc_view = nn.Linear(3 * (1 + 2 * config.view_octaves), hidden)

    def forward(
        self, p: Tensor, direction: Tensor, codes: Tensor, noise: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """p (..., dim), unit directions (..., 3), codes (..., c_dim), broadcast -> density (...), colours (..., 3)."""
        shape, look = codes.chunk(2, -1)
        h = self._trunk(p, shape)
        density = F.relu(self.fc_out(h)[..., 0].float() + noise)
        view = self.fc_view(nerf_encoding(direction, self.config.view_octaves)) + self.fc_view_c(look)
        return density, torch.sigmoid(self.net_view(h + view).float())

    def density(self, p: Tensor, codes: Tensor) -> Tensor:
        """Density alone (...)."""
        return F.relu(self.fc_out(self._trunk(p, codes.chunk(2, -1)[0]))[..., 0].float())

    def _trunk(self, p: Tensor, shape: Tensor) -> Tensor:
        h = (self.fc_in(nerf_encoding(p, self.config.octaves)) + self.fc_c(shape)).relu_()
        for block in self.blocks:
            h = block(h).relu_()
        return h


def field_config_from(shapes: Shapes, dim: int = 3) -> FieldConfig:
    """Settings from the key shapes of a field."""
    hidden, position = shapes["fc_in.weight"]
    return FieldConfig(
        hidden,
        2 * shapes["fc_c.weight"][1],
        dim,
        (position // dim - 1) // 2,
        (shapes["fc_view.weight"][1] // 3 - 1) // 2,
        count(shapes, "blocks.{}.weight"),
    )
