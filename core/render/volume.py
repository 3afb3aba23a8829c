# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a `SparseGrid` from any camera: colour, opacity, depth."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..fields.sparse_grid import SparseGrid, interpolate
from ..types import Camera
from .samples import Samples, march, pack, ray_weights, segment_sum

SURFACE = 0.75
"""Transmittance at the surface of a field. Our choice: rays that graze a soft surface meet more of it than those that meet it
straight on, so the masks hold the grazing ones at the true place and the median of the others lies half a cell too deep;
at a quarter the two agree (outlines of fused surfaces against outlines of the field: 0.0 pixels, at the median -0.4)."""


def camera_rays(camera: Camera, index: Tensor) -> tuple[Tensor, Tensor]:
    """Linear pixel indices (R,) -> origins (R, 3), unit directions (R, 3), float32, result's frame."""
    x = (index % camera.width + 0.5 - camera.cx) / camera.fx
    y = (torch.div(index, camera.width, rounding_mode="floor") + 0.5 - camera.cy) / camera.fy
    local = torch.nn.functional.normalize(torch.stack([x, y, torch.ones_like(x)], -1).float(), dim=-1)
    matrix = torch.tensor(camera.cam_to_world, dtype=torch.float32, device=index.device)
    return matrix[:3, 3].expand(len(index), 3), local @ matrix[:3, :3].T


@torch.no_grad()
def render_field(
    field: SparseGrid, camera: Camera, chunk: int = 40_000
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Render a field.

    Returns:
        rgb (H, W, 3) float32 premultiplied by alpha, alpha (H, W) float32, depth (H, W) float32: z-depth of the surface, where a
        quarter of the light is stopped; 0 where less is.
    """
    total = camera.width * camera.height
    device = field.table.device
    rgb = torch.zeros(total, 3)
    alpha = torch.zeros(total)
    depth = torch.zeros(total)
    depths = field.cell_depths()
    forward = torch.tensor(camera.cam_to_world[:3, 2], dtype=torch.float32, device=device)
    for start in range(0, total, chunk):
        index = torch.arange(start, min(total, start + chunk), device=device)
        origins, directions = camera_rays(camera, index)
        met, ray, distance = march(field.cells, origins, directions, field.cells.size, depths)
        if len(met) == 0:
            continue
        samples = pack(ray, distance, len(met))
        origins, directions = origins[met], directions[met]
        units = field.cells.cell_units(origins[ray] + directions[ray] * distance[:, None])
        values = interpolate(field.table, *field.cells.corners(units))
        transmittance, weights = ray_weights(field.density(values[:, 0]) * field.cells.size, samples)
        every = torch.arange(len(ray), dtype=torch.int32, device=device)
        features = torch.nn.functional.embedding_bag(
            every, values[:, 1:].contiguous(), samples.first, per_sample_weights=weights, mode="sum"
        )
        opacity = segment_sum(weights, samples)
        index = index[met].cpu()
        rgb[index] = (
            field.decode(features, directions).clamp(0, 1).minimum(opacity[:, None].clamp(0, 1)).cpu()
        )
        alpha[index] = opacity.clamp(0, 1).cpu()
        depth[index] = (_surface_depth(samples, transmittance, weights) * (directions @ forward)).cpu()
    shape = (camera.height, camera.width)
    return rgb.reshape(*shape, 3).numpy(), alpha.reshape(shape).numpy(), depth.reshape(shape).numpy()


def _surface_depth(samples: Samples, transmittance: Tensor, weights: Tensor) -> Tensor:
    """(R,) distance where transmittance falls to `SURFACE`, linear between samples; 0 where it never does."""
    after = transmittance - weights
    crossing = (after < SURFACE) & (transmittance >= SURFACE)
    which = crossing.nonzero()[:, 0]
    before = (which - 1).clamp(min=0)
    same = samples.ray[before] == samples.ray[which]
    step = torch.where(same, samples.depth[which] - samples.depth[before], 0.0)
    part = (transmittance[which] - SURFACE) / (transmittance[which] - after[which]).clamp(min=1e-9)
    out = torch.zeros(len(samples.first), device=weights.device)
    out[samples.ray[which]] = samples.depth[which] + (part - 0.5) * step.clamp(
        max=2 * step.median() if len(step) else 0
    )
    return out
