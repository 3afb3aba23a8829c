# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed distance from a point and its latent in the volume (Long et al. 2022, section 3.2; Wang et al. 2021, NeuS)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.rows import linear


class NormedLinear(nn.Module):
    """Linear layer whose rows are g v/|v| (Salimans and Kingma 2016)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.weight_g = nn.Parameter(torch.ones(n_out, 1))
        self.weight_v = nn.Parameter(torch.ones(n_out, n_in))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_in) -> (..., n_out)."""
        return linear(x, self.weight(), self.bias)

    def weight(self) -> Tensor:
        """(n_out, n_in)."""
        return self.weight_g * F.normalize(self.weight_v, dim=1, eps=0.0)


def encode(points: Tensor, frequencies: int) -> Tensor:
    """(N, 3) -> (N, 3 + 6 frequencies): p, sin p, cos p, sin 2p, cos 2p, ... (NeRF without the factor pi)."""
    parts = [points]
    for k in range(frequencies):
        parts += [torch.sin(2.0**k * points), torch.cos(2.0**k * points)]
    return torch.cat(parts, -1)


def sample_volume(volume: Tensor, points: Tensor) -> Tensor:
    """Trilinear with aligned corners: volume (C, X, Y, Z) over -1..1, points (N, 3) -> (N, C).

    The original's rule at the border: zero where an index coordinate is <= 0 or >= n, the last value between n - 1 and n.
    """
    size = points.new_tensor(volume.shape[1:])
    index = (points + 1) / 2 * (size - 1)
    inside = ((index > 0) & (index < size)).all(1, keepdim=True)
    grid = points.flip(1)[None, None, None]  # grid_sample wants the fastest axis first
    sampled = F.grid_sample(volume[None], grid, padding_mode="border", align_corners=True)  # (1, C, 1, 1, N)
    return sampled[0, :, 0, 0].T * inside


class SurfaceNetwork(nn.Module):
    """lin0 on the encoded point; the latent joins the input of every later layer; softplus with beta 100."""

    def __init__(self, hidden: int = 128, latent: int = 16, frequencies: int = 6, layers: int = 3) -> None:
        super().__init__()
        self.frequencies, self.layers = frequencies, layers
        for i in range(layers):
            self.add_module(f"lin{i}", NormedLinear(hidden + latent if i else 3 + 6 * frequencies, hidden))

    def forward(self, points: Tensor, latent: Tensor) -> Tensor:
        """points (N, 3), latent (N, latent) -> (N, hidden): signed distance first, then features nobody reads."""
        return self._last()(self._trunk(points, latent))

    def distance(self, points: Tensor, latent: Tensor) -> Tensor:
        """points (N, 3), latent (N, latent) -> signed distance alone (N,)."""
        last = self._last()
        return F.linear(self._trunk(points, latent), last.weight()[:1], last.bias[:1])[:, 0]

    def _trunk(self, points: Tensor, latent: Tensor) -> Tensor:
        """Input of the last layer (N, hidden + latent)."""
        h = encode(points, self.frequencies)
        for i in range(self.layers - 1):
            h = self.get_submodule(f"lin{i}")(torch.cat([h, latent], 1) if i else h)
            h = F.softplus(h, beta=100)
        return torch.cat([h, latent], 1)

    def _last(self) -> NormedLinear:
        layer = self.get_submodule(f"lin{self.layers - 1}")
        assert isinstance(layer, NormedLinear)
        return layer
