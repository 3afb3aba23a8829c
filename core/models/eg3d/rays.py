# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays of a camera label, where samples are taken along them, and what each contributes (EG3D, supplement; mip-NeRF).

Depth is distance along the unit ray. The published sampling is kept with its oddities, because depths and pictures must
equal the original's: the last bin of the importance sampling is never reached, and rays that miss the box in the `auto`
mode end where the last ray that hits it starts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .configuration import RenderingConfig


class Draws(NamedTuple):
    """Random numbers of one rendering; `None` is the repeatable choice: no jitter, evenly spaced quantiles."""

    jitter: Tensor | None = None
    """(B, R, D) in 0..1, in units of the coarse step."""
    quantiles: Tensor | None = None
    """(B, R, F) in 0..1."""

    @classmethod
    def random(
        cls, config: RenderingConfig, batch: int, rays: int, generator: torch.Generator | None = None
    ) -> Draws:
        """As the original draws them."""
        sizes = (config.depth_resolution, config.depth_resolution_importance)
        return cls(*(torch.rand(batch, rays, size, generator=generator) for size in sizes))


def camera_rays(label: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Origins and unit directions, each (B, R^2, 3), rows first, of labels (B, 25).

    A label is camera-to-world (4 x 4, OpenCV axes) and K (3 x 3) of a picture of side 1; pixel centres at (i + 0.5) / R.
    """
    pose, k = label[:, :16].view(-1, 4, 4), label[:, 16:25].view(-1, 3, 3)
    line = (torch.arange(resolution, device=label.device, dtype=label.dtype) + 0.5) / resolution
    v, u = (axis.reshape(1, -1) for axis in torch.meshgrid(line, line, indexing="ij"))  # (1, R^2)
    fx, fy, skew, cx, cy = (k[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 1), (0, 2), (1, 2)))
    y = (v - cy) / fy
    x = (u - cx + cy * skew / fy - skew * v / fy) / fx
    local = torch.stack([x, y, torch.ones_like(x)], -1)  # (B, R^2, 3)
    directions = F.normalize(local @ pose[:, :3, :3].mT, dim=-1)
    return pose[:, None, :3, 3].expand_as(directions), directions


def coarse_depths(
    config: RenderingConfig, origins: Tensor, directions: Tensor, jitter: Tensor | None
) -> Tensor:
    """Evenly spaced depths (..., D), each moved on by up to one step.

    Args:
        config: number of samples, interval, spacing.
        origins: (..., 3).
        directions: (..., 3) unit.
        jitter: (..., D) in 0..1, or None for none.
    """
    n = config.depth_resolution
    steps = torch.linspace(0.0, 1.0, n, device=origins.device)
    shift = 0.0 if jitter is None else jitter / (n - 1)
    if config.ray_start == "auto" or config.ray_end == "auto":
        near, far = (d[..., None] for d in box_interval(origins, directions, config.box_warp))
        return near + (far - near) * steps + shift * (far - near)
    start, end = float(config.ray_start), float(config.ray_end)
    if config.disparity_space_sampling:
        s = steps + shift
        depths = 1.0 / (1.0 / start * (1.0 - s) + 1.0 / end * s)
    else:
        depths = torch.linspace(start, end, n, device=origins.device) + shift * (end - start)
    return depths.expand(*origins.shape[:-1], n)


def box_interval(origins: Tensor, directions: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """Entry and exit (...) of rays (..., 3) in the cube of this side around the origin.

    Rays that miss it get the least and the greatest *entry* of those that hit, as in the original.
    """
    inverse = 1.0 / directions
    a, b = (-side / 2 - origins) * inverse, (side / 2 - origins) * inverse
    near, far = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
    hit = far > near
    if bool(hit.any()) and not bool(hit.all()):
        near, far = torch.where(hit, near, near[hit].min()), torch.where(hit, far, near[hit].max())
    return near, far


def interval_weights(sigma: Tensor, depths: Tensor) -> Tensor:
    """What each interval between neighbours contributes to its ray.

    Args:
        sigma: (..., S) raw density; softplus(mean of neighbours - 1) is the density of an interval.
        depths: (..., S) ascending.

    Returns:
        (..., S - 1); the sum is the opacity.
    """
    density = F.softplus((sigma[..., 1:] + sigma[..., :-1]) / 2 - 1.0)
    # Not expm1: where next to nothing lies, the depth is a quotient of two such roundings, and has to equal the original's.
    alpha = 1.0 - torch.exp(-density * (depths[..., 1:] - depths[..., :-1]))
    clear = torch.cumprod(1.0 - alpha + 1e-10, -1)
    return alpha * torch.cat([torch.ones_like(clear[..., :1]), clear[..., :-1]], -1)


def importance_depths(depths: Tensor, weights: Tensor, quantiles: Tensor) -> Tensor:
    """More depths where the coarse pass found something (inverse transform sampling; NeRF, section 5.2).

    Args:
        depths: (N, D) coarse depths.
        weights: (N, D - 1) their weights.
        quantiles: (N, F) in 0..1.

    Returns:
        (N, F), in the order of the quantiles; without gradient.
    """
    with torch.no_grad():
        smooth = F.avg_pool1d(F.max_pool1d(weights[:, None], 2, 1, 1), 2, 1)[:, 0] + 0.01  # (N, D - 1)
        bins = (depths[:, 1:] + depths[:, :-1]) / 2  # (N, D - 1)
        inner = smooth[:, 1:-1] + 1e-5  # (N, D - 3)
        cdf = torch.cumsum(inner / inner.sum(-1, keepdim=True), -1)
        cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], -1)  # (N, D - 2)
        index = torch.searchsorted(cdf, quantiles.contiguous(), right=True)
        below, above = (index - 1).clamp_min(0), index.clamp_max(inner.shape[-1])
        low, high = cdf.gather(1, below), cdf.gather(1, above)
        width = high - low
        width = torch.where(width < 1e-5, torch.ones_like(width), width)
        start = bins.gather(1, below)
        return start + (quantiles - low) / width * (bins.gather(1, above) - start)
