# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cells can hold surface: the visual hull at first, then what training rays have seen there."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..types import View


def grid_shape(box: Tensor, resolution: int) -> tuple[int, int, int]:
    """Cells along x, y, z for `resolution` cubic cells along the longest side of box (2, 3)."""
    size = box[1] - box[0]
    cell = float(size.max()) / resolution
    nx, ny, nz = (max(1, round(float(side) / cell + 0.499)) for side in size)
    return nx, ny, nz


def cell_centres(box: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(nx * ny * nz, 3) float32 centres, x slowest."""
    cell = float((box[1] - box[0]).max()) / max(shape)
    axes = [(torch.arange(n, device=box.device) + 0.5) * cell for n in shape]
    return box[0] + torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def visual_hull(
    views: list[View], box: Tensor, shape: tuple[int, int, int], margin_px: float = 1.5, misses: int = 0
) -> Tensor:
    """Cells that no photo shows to be empty (Laurentini 1994), (nx, ny, nz) bool.

    A cell survives if in every photo it projects within `margin_px` plus its own half diagonal of the mask, or outside of
    the picture, except in at most `misses` photos (masks that were found err); and a quarter of the photos with masks, two
    at least, must show it. Views without a mask carve nothing.
    """
    points = cell_centres(box, shape)
    alive = torch.arange(len(points), device=box.device)
    shown = torch.zeros(len(points), dtype=torch.int16, device=box.device)
    missed = torch.zeros_like(shown)
    masked = sum(view.mask is not None for view in views)
    half_cell = 0.87 * float((box[1] - box[0]).max()) / max(shape)
    for view in views:
        if view.mask is None:
            continue
        camera = view.camera
        matrix = torch.tensor(camera.world_to_cam, dtype=torch.float32, device=box.device)
        local = points[alive] @ matrix[:3, :3].T + matrix[:3, 3]
        depth = local[:, 2]
        radius = int(margin_px + camera.fx * half_cell / max(float(depth.median()), 1e-6) + 0.5)
        mask = torch.from_numpy(view.mask).to(box.device)[None, None]
        grown = functional.max_pool2d((mask > 0.02).float(), 2 * radius + 1, 1, radius)[0, 0]
        x = (camera.fx * local[:, 0] / depth.clamp(min=1e-9) + camera.cx).long()
        y = (camera.fy * local[:, 1] / depth.clamp(min=1e-9) + camera.cy).long()
        inside = (depth > 0) & (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)
        seen = grown[y.clamp(0, camera.height - 1), x.clamp(0, camera.width - 1)] > 0.5
        shown[alive[seen & inside]] += 1
        missed[alive[~seen & inside]] += 1
        alive = alive[missed[alive] <= misses]
    hull = torch.zeros(len(points), dtype=torch.bool, device=box.device)
    hull[alive[shown[alive] >= min(masked, max(2, masked // 4))]] = True
    return hull.reshape(shape)


def grow(cells: Tensor, steps: int = 1) -> Tensor:
    """(nx, ny, nz) bool dilated by `steps` cells in all 26 directions."""
    return functional.max_pool3d(cells[None, None].float(), 2 * steps + 1, 1, steps)[0, 0] > 0.5


def refine(cells: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The same region on another grid over the same box.

    A finer cell takes the coarse cell its centre lies in; a coarser one is set if the centre of any marked cell lies in it.
    """
    scale = max(cells.shape) / max(shape)
    if scale > 1.0:
        found = ((cells.nonzero() + 0.5) / scale).long()
        limits = torch.tensor(shape, device=cells.device) - 1
        out = torch.zeros(shape, dtype=torch.bool, device=cells.device)
        out[tuple(torch.minimum(found, limits).T)] = True
        return out
    index = [
        ((torch.arange(n, device=cells.device) + 0.5) * scale).long().clamp(max=m - 1)
        for n, m in zip(shape, cells.shape, strict=True)
    ]
    return cells[index[0]][:, index[1]][:, :, index[2]]
