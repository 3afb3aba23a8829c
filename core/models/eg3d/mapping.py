# SPDX-License-Identifier: GPL-3.0-or-later
"""EG3D's mapping network: a latent code and a camera label to the rows that modulate the generator (section 4.4)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from .configuration import Eg3dConfig
from .convolution import FullyConnected


class Mapping(nn.Module):
    """(z, label) -> w."""

    w_avg: Tensor

    def __init__(self, config: Eg3dConfig) -> None:
        super().__init__()
        self.rows = config.rows
        self.embed = FullyConnected(config.label_width, config.embed_width)
        widths = (config.z_width + config.embed_width, *config.mapping_widths)
        for number, (width, out) in enumerate(pairwise(widths)):
            self.add_module(f"fc{number}", FullyConnected(width, out, config.mapping_rate, active=True))
        self.layers = len(config.mapping_widths)
        self.register_buffer("w_avg", torch.zeros(config.w_width))

    def forward(self, z: Tensor, label: Tensor, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Latent rows.

        Args:
            z: (B, z_width), from N(0, 1).
            label: (B, label_width) as it is conditioned on.
            truncation: 1 leaves w as it is, 0 gives the mean.
            cutoff: rows from here on are not truncated; None: all are.

        Returns:
            (B, rows, w_width).
        """
        x = torch.cat([unit(z.float()), unit(self.embed(label.float()))], 1)
        for number in range(self.layers):
            x = self.get_submodule(f"fc{number}")(x)
        ws = x[:, None].expand(-1, self.rows, -1)
        if truncation != 1.0:
            ws = ws.clone()
            ws[:, :cutoff] = self.w_avg.lerp(ws[:, :cutoff], truncation)
        return ws


def unit(x: Tensor) -> Tensor:
    """(B, C) with mean square 1."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)
