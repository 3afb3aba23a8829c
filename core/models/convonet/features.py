# SPDX-License-Identifier: GPL-3.0-or-later
"""Feature planes and grids: where a point falls in them, gathering points into cells, reading them back (section 3.1, 3.2).

Object frame: the unit cube around the origin; padded by 10 % on the planes and grids.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = 0.1
AXES = {"xz": (0, 2), "xy": (0, 1), "yz": (1, 2), "grid": (0, 1, 2)}
"""Coordinates a map keeps, in the order of its last, last but one ... axis."""

Pooling = Literal["max", "mean"]


def normalise(p: Tensor, name: str, padding: float = PADDING) -> Tensor:
    """p (..., 3) -> (..., 2 or 3) in 0..1; the published epsilons of planes and grids differ.

    v = p / (1 + padding + e) + 0.5, clamped to 0 .. 1 - e; e = 1e-5 on planes, 1e-3 on grids.
    """
    epsilon = 1e-3 if name == "grid" else 1e-5
    v = p[..., AXES[name]] / (1.0 + padding + epsilon) + 0.5
    v = torch.where(v >= 1.0, torch.full_like(v, 1.0 - epsilon), v)
    return torch.where(v < 0.0, torch.zeros_like(v), v)


def cell_index(v: Tensor, resolution: int) -> Tensor:
    """v (..., 2 or 3) in 0..1 -> (...) int64 flat cell, first coordinate fastest."""
    cell = (v * resolution).long()
    index = cell[..., -1]
    for axis in range(cell.shape[-1] - 2, -1, -1):
        index = cell[..., axis] + resolution * index
    return index


def scatter(features: Tensor, index: Tensor, cells: int, pooling: Pooling) -> Tensor:
    """features (B, T, C), index (B, T) -> (B, cells, C): mean or maximum of the points of each cell, 0 where empty."""
    out = features.new_zeros(len(features), cells, features.shape[-1])
    where = index[..., None].expand_as(features)
    return out.scatter_reduce(1, where, features, "amax" if pooling == "max" else "mean", include_self=False)


def pool_locally(features: Tensor, index: Tensor, cells: int, pooling: Pooling) -> Tensor:
    """(B, T, C) -> (B, T, C): what the cell of each point holds."""
    pooled = scatter(features, index, cells, pooling)
    return pooled.gather(1, index[..., None].expand_as(features))


def as_map(features: Tensor, index: Tensor, resolution: int, dims: int) -> Tensor:
    """(B, T, C) -> feature map (B, C, R, R) (row: second coordinate) or (B, C, R, R, R) (axes z, y, x)."""
    flat = scatter(features, index, resolution**dims, "mean")
    return flat.mT.reshape(len(features), -1, *[resolution] * dims)


def sample(feature_map: Tensor, v: Tensor, mode: str = "bilinear") -> Tensor:
    """feature_map (B, C, ...), v (B, T, 2 or 3) in 0..1 -> (B, T, C), linear, clamped at the border."""
    places = 2.0 * v - 1.0
    places = places[:, :, None] if v.shape[-1] == 2 else places[:, :, None, None]
    out = F.grid_sample(feature_map, places, mode=mode, padding_mode="border", align_corners=True)
    return out.flatten(2).mT
