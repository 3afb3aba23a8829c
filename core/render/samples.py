# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples along rays in occupied cells, and what each of them adds to its ray (NeRF, eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..fields.sparse_grid import Cells


@dataclass
class Samples:
    """Samples of R rays, ray after ray, front to back: `ray` (n,) int64 sorted, `depth` (n,) distance along the unit ray."""

    ray: Tensor
    depth: Tensor
    first: Tensor
    """(R,) int32: index of each ray's first sample; every ray has at least one."""
    last: Tensor
    """(R,) int64: index of its last sample."""


OPAQUE = 7.0
"""Optical depth behind which nothing is seen any more: transmittance 1e-3."""


def march(
    cells: Cells, origins: Tensor, directions: Tensor, step: float, depths: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Samples at regular steps inside occupied cells.

    Goes over the ray in strides of four cells on a coarse occupancy first. Steps start where the ray enters the box, at half
    a step. With `depths`, the optical depth of a step in every cell (linear cell id), a ray ends a stride behind the one
    in which it became `OPAQUE`; the extra stride leaves room for surfaces that still move.

    Returns:
        rays that met an occupied cell (K,) int64, then per sample: index into those K (n,) int64, sorted, and depth (n,).
    """
    device = origins.device
    coarse = functional.max_pool3d(cells.occupied[None, None].float(), 4, 4, ceil_mode=True)
    coarse = functional.max_pool3d(coarse, 3, 1, 1)[0, 0] > 0.5
    flat = coarse.flatten()
    last = torch.tensor(coarse.shape, device=device) - 1.0
    low, high = cells.box[0], cells.box[0] + cells.shape * cells.size
    inverse = 1.0 / torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
    a, b = (low - origins) * inverse, (high - origins) * inverse
    near = torch.minimum(a, b).amax(-1).clamp(min=0)
    far = torch.maximum(a, b).amin(-1)
    stride = 4 * cells.size
    fine = max(1, round(stride / step))
    offsets = (torch.arange(fine, device=device) + 0.5) * (stride / fine)
    strides = int(torch.ceil((far - near).clamp(min=0).max() / stride)) if len(origins) else 0
    occupied = cells.occupied.flatten()
    rays, distances = [], []
    # Only rays that still go on are looked at: they are picked out anew whenever a quarter of them has ended.
    index = torch.arange(len(origins), device=device)
    begin, along = (origins + directions * near[:, None] - low) / stride, directions
    stopped = torch.zeros(len(origins), device=device)
    ended = far <= near
    for k in range(strides):
        going = ~ended & (near + k * stride < far)
        if int(going.sum()) < 0.75 * len(going):
            kept = going.nonzero()[:, 0]
            index, begin, along, near, far, stopped, ended = (
                values[kept] for values in (index, begin, along, near, far, stopped, ended)
            )
            if len(kept) == 0:
                break
            going = torch.ones(len(kept), dtype=torch.bool, device=device)
        whole = torch.minimum((begin + along * (k + 0.5)).clamp_(min=0), last).floor_()
        live = flat[((whole[:, 0] * coarse.shape[1] + whole[:, 1]) * coarse.shape[2] + whole[:, 2]).long()]
        chosen = (live & going).nonzero()[:, 0]
        if len(chosen) == 0:
            continue
        ray = index[chosen]
        distance = (near[chosen] + k * stride)[:, None] + offsets  # (m, fine)
        points = origins[ray, None] + directions[ray, None] * distance[..., None]
        cell = cells.cell_index(cells.cell_units(points.reshape(-1, 3)))
        hit = (distance < far[chosen, None]) & occupied[cell].view(distance.shape)
        row, column = hit.nonzero(as_tuple=True)
        rays.append(ray[row])
        distances.append(distance[row, column])
        if depths is not None:
            ended = stopped > OPAQUE  # before this stride: one more is kept
            stopped.index_add_(0, chosen[row], depths[cell[hit.view(-1)]])
    if not rays:
        nothing = torch.zeros(0, dtype=torch.int64, device=device)
        return nothing, nothing, torch.zeros(0, device=device)
    ray, order = torch.sort(torch.cat(rays), stable=True)
    met, packed = torch.unique_consecutive(ray, return_inverse=True)
    return met, packed, torch.cat(distances)[order]


def pack(ray: Tensor, depth: Tensor, count: int) -> Samples:
    """Sorted ray indices (n,), depths (n,) and the number of rays -> Samples."""
    first = torch.searchsorted(ray, torch.arange(count, device=ray.device))
    last = torch.cat([first[1:], first.new_tensor([len(ray)])]) - 1
    return Samples(ray, depth, first.int(), last)


def ray_weights(depths: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
    """Optical depths (n,) -> transmittance before each sample (n,) and its weight (n,)."""
    before = torch.cumsum(depths.double(), 0) - depths
    start = before[samples.first.long()][samples.ray]
    transmittance = torch.exp(-(before - start).clamp(min=0)).float()
    return transmittance, transmittance * -torch.expm1(-depths)


def segment_sum(values: Tensor, samples: Samples) -> Tensor:
    """(n,) -> (R,): sums over each ray's samples."""
    running = torch.cumsum(values.double(), 0)
    first = samples.first.long()
    return (running[samples.last] - running[first]).float() + values[first]
