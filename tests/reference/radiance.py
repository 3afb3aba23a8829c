# SPDX-License-Identifier: GPL-3.0-or-later
"""The radiance field the plain way: `grid_sample` on a dense grid, alpha compositing by a product, autograd throughout.

Equations 2 and 3 of NeRF (Mildenhall et al. 2020) on post-activated trilinear densities.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor


def interpolate(grid: Tensor, units: Tensor) -> Tensor:
    """grid (nx + 1, ny + 1, nz + 1, C) on vertices, units (N, 3) in cells -> (N, C)."""
    last = torch.tensor(grid.shape[:3]) - 1
    where = (units / last * 2 - 1).flip(-1)[None, None, None]
    values = functional.grid_sample(grid.permute(3, 0, 1, 2)[None], where, align_corners=True)
    return values[0, :, 0, 0].T


def composite(depths: list[Tensor], features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Per ray: optical depths (S,) and features (S, C) -> stacked colours (R, C) and opacities (R,)."""
    colours, opacities = [], []
    for depth, feature in zip(depths, features, strict=True):
        alpha = 1 - torch.exp(-depth)
        light = torch.cumprod(torch.cat([torch.ones(1, dtype=depth.dtype), 1 - alpha[:-1]]), 0)
        weight = alpha * light
        colours.append((weight[:, None] * feature).sum(0))
        opacities.append(weight.sum())
    return torch.stack(colours), torch.stack(opacities)
