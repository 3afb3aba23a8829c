# SPDX-License-Identifier: GPL-3.0-or-later
"""GIRAFFE's feature field of one object or of the background (Niemeyer & Geiger, CVPR 2021, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..parts.fourier import giraffe_encoding
from ..parts.key_shapes import Shapes, count
from ..parts.rows import RowLinear

SKIP = 4
"""The inputs enter again behind this many of the published eight layers."""


@dataclass(frozen=True)
class FieldConfig:
    """Widths of a feature field."""

    hidden: int = 128
    z_dim: int = 256
    features: int = 128
    n_blocks: int = 7
    downscale: float = 2.0
    """Coordinates and unit directions are divided by it before encoding (background: 12); not visible in the weights."""
    octaves: int = 10
    view_octaves: int = 4
    skips: int = 1


class FeatureField(nn.Module):
    """(p, direction, shape code, appearance code) -> density, feature (equation 5)."""

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.config = config
        hidden, position, view = config.hidden, 6 * config.octaves, 6 * config.view_octaves
        self.fc_in = RowLinear(position, hidden)
        self.fc_z = nn.Linear(config.z_dim, hidden)
        self.blocks = nn.ModuleList(RowLinear(hidden, hidden) for _ in range(config.n_blocks))
        if config.skips:
            self.fc_z_skips = nn.ModuleList(nn.Linear(config.z_dim, hidden) for _ in range(config.skips))
            self.fc_p_skips = nn.ModuleList(RowLinear(position, hidden) for _ in range(config.skips))
        self.sigma_out = nn.Linear(hidden, 1)
        self.fc_z_view = nn.Linear(config.z_dim, hidden)
        self.feat_view = RowLinear(hidden, hidden)
        self.fc_view = nn.Linear(view, hidden)
        self.feat_out = RowLinear(hidden, config.features)

    def forward(self, p: Tensor, direction: Tensor, z_shape: Tensor, z_look: Tensor) -> tuple[Tensor, Tensor]:
        """p, unit directions (B, T, 3), codes (B, z_dim) -> raw density (B, T), features (B, T, F)."""
        _, h = self._trunk(p, z_shape)
        view = giraffe_encoding(direction, self.config.view_octaves, self.config.downscale)
        h_view = F.relu(self.feat_view(h) + self.fc_z_view(z_look)[:, None] + self.fc_view(view))
        return self.sigma_out(h)[..., 0], self.feat_out(h_view)

    def density(self, p: Tensor, z_shape: Tensor) -> Tensor:
        """Raw density alone (B, T)."""
        _, h = self._trunk(p, z_shape)
        return self.sigma_out(h)[..., 0]

    def _trunk(self, p: Tensor, z_shape: Tensor) -> tuple[Tensor, Tensor]:
        code = giraffe_encoding(p, self.config.octaves, self.config.downscale)
        h = F.relu(self.fc_in(code) + self.fc_z(z_shape)[:, None])  # (B, T, H)
        for i, block in enumerate(self.blocks):
            h = F.relu(block(h))
            if i + 1 == SKIP and i + 1 < len(self.blocks):
                h = h + self.fc_z_skips[0](z_shape)[:, None] + self.fc_p_skips[0](code)
        return code, h


def field_config_from(shapes: Shapes, downscale: float) -> FieldConfig:
    """Settings from the key shapes of a field."""
    hidden, position = shapes["fc_in.weight"]
    return FieldConfig(
        hidden,
        shapes["fc_z.weight"][1],
        shapes["feat_out.weight"][0],
        count(shapes, "blocks.{}.weight"),
        downscale,
        position // 6,
        shapes["fc_view.weight"][1] // 6,
        count(shapes, "fc_z_skips.{}.weight"),
    )


def field_shares(density: Tensor, maximum: bool = False) -> tuple[Tensor, Tensor]:
    """How several fields make one: total density, and the share of each field in its features (equation 8).

    Args:
        density: (N, B, T) of N fields, not negative.
        maximum: keep the densest field instead.

    Returns:
        (B, T) and (N, B, T).
    """
    if len(density) == 1:
        return density[0], torch.ones_like(density)
    if maximum:
        best, index = density.max(0)
        return best, torch.arange(len(density)).to(index)[:, None, None].eq(index).to(density)
    total = density.sum(0)
    return total, density / torch.where(total == 0, torch.full_like(total, 1e-4), total)
