# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays, sampling and compositing of NeRF (sections 4 and 5.2), pixel for pixel as in nerf-pytorch.

Rays carry no half-pixel offset and their directions are not normalised: depth runs along the optical axis, camera looking
along -z (a Blender camera). Shift the principal point by half a pixel to match a Blender picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..parts.compositing import interval_lengths, jitter_depths, ray_weights
from ..parts.fourier import nerf_encoding
from ..parts.rows import chunk_of
from .network import NerfMlp

Network = Callable[[Tensor, Tensor | None], Tensor]
"""Encoded positions (N, .) and directions (R, .), each of N / R positions in a row -> raw (N, 4 or more)."""


class Composite(NamedTuple):
    """What compositing gives along rays (...)."""

    rgb: Tensor
    """(..., 3) in 0..1."""
    disparity: Tensor
    """(...) 1 / expected depth."""
    opacity: Tensor
    """(...)."""
    weights: Tensor
    """(..., S)."""
    depth: Tensor
    """(...) sum of weight times depth."""


def camera_rays(height: int, width: int, matrix: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
    """Origins and directions (H, W, 3) of a pinhole camera.

    Args:
        height, width: pixels.
        matrix: (3, 3) K in pixels.
        pose: (3 or 4, 4) camera to world, OpenGL axes.
    """
    y, x = torch.meshgrid(torch.arange(height).to(pose), torch.arange(width).to(pose), indexing="ij")
    fx, fy, cx, cy = (float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    local = torch.stack([(x - cx) / fx, -(y - cy) / fy, -torch.ones_like(x)], -1)
    direction = (local[..., None, :] * pose[:3, :3]).sum(
        -1
    )  # no matrix product: autocast must not round rays
    return pose[:3, 3].expand(direction.shape), direction


def ndc_rays(
    height: int, width: int, focal: float, origin: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor]:
    """Rays (..., 3) of a forward-facing scene in normalised device coordinates (appendix C), near plane z = -1."""
    origin = origin - ((1.0 + origin[..., 2]) / direction[..., 2])[..., None] * direction
    ox, oy, oz = origin.unbind(-1)
    dx, dy, dz = direction.unbind(-1)
    ax, ay = -2.0 * focal / width, -2.0 * focal / height
    new_origin = torch.stack([ax * ox / oz, ay * oy / oz, 1.0 + 2.0 / oz], -1)
    new_direction = torch.stack([ax * (dx / dz - ox / oz), ay * (dy / dz - oy / oz), -2.0 / oz], -1)
    return new_origin, new_direction


def composite(
    raw: Tensor, depths: Tensor, directions: Tensor, white: bool = False, noise: Tensor | float = 0.0
) -> Composite:
    """Equation 3.

    Args:
        raw: (..., S, 4) colour logits and density.
        depths: (..., S).
        directions: (..., 3) unnormalised.
        white: put the colours on white.
        noise: added to the density before relu (training).
    """
    rgb = torch.sigmoid(raw[..., :3])
    weights = ray_weights(raw[..., 3] + noise, interval_lengths(depths, directions.norm(dim=-1)))
    colour = (weights[..., None] * rgb).sum(-2)
    depth, opacity = (weights * depths).sum(-1), weights.sum(-1)
    disparity = 1.0 / torch.clamp_min(depth / opacity, 1e-10)
    if white:
        colour = colour + (1.0 - opacity[..., None])
    return Composite(colour, disparity, opacity, weights, depth)


def sample_by_weights(
    bins: Tensor, weights: Tensor, number: int, generator: torch.Generator | None = None
) -> Tensor:
    """Inverse transform sampling of a piecewise constant density (section 5.2).

    Args:
        bins: (R, M + 1) depths.
        weights: (R, M).
        number: samples per ray, evenly spaced in probability, or random with a generator.

    Returns:
        (R, number).
    """
    weights = weights + 1e-5
    cdf = torch.cumsum(weights / weights.sum(-1, keepdim=True), -1)
    cdf = torch.cat([torch.zeros_like(cdf[..., :1]), cdf], -1)
    if generator is None:
        u = torch.linspace(0.0, 1.0, number).to(cdf).expand(*cdf.shape[:-1], number).contiguous()
    else:
        u = torch.rand(*cdf.shape[:-1], number, generator=generator).to(cdf)
    index = torch.searchsorted(cdf, u, right=True)
    low, high = (index - 1).clamp_min(0), index.clamp_max(cdf.shape[-1] - 1)
    cdf_low, cdf_high = cdf.gather(-1, low), cdf.gather(-1, high)
    bin_low, bin_high = bins.gather(-1, low), bins.gather(-1, high)
    width = cdf_high - cdf_low
    t = (u - cdf_low) / torch.where(width < 1e-5, torch.ones_like(width), width)
    return bin_low + t * (bin_high - bin_low)


def query(
    network: Network, points: Tensor, views: Tensor | None, octaves: tuple[int, int] = (10, 4)
) -> Tensor:
    """points (R, S, 3), unit directions (R, 3) or None -> raw (R, S, C)."""
    rays = max(chunk_of(points.device) // points.shape[1], 1)
    raw = []
    for start in range(0, len(points), rays):
        here = points[start : start + rays]
        code = None if views is None else nerf_encoding(views[start : start + rays], octaves[1])
        raw.append(network(nerf_encoding(here.flatten(0, 1), octaves[0]), code).unflatten(0, here.shape[:2]))
    return torch.cat(raw)


def render_rays(
    coarse: NerfMlp,
    fine: NerfMlp | None,
    origin: Tensor,
    direction: Tensor,
    near: float,
    far: float,
    samples: tuple[int, int],
    white: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Composite, Composite, Tensor]:
    """Coarse, then fine volume rendering of rays (R, 3).

    Args:
        coarse, fine: networks; None: the coarse one again.
        origin, direction: (R, 3), unnormalised directions.
        near, far: depths.
        samples: coarse and additional fine samples.
        white: white background.
        generator: jitters the samples (training).

    Returns:
        the fine and the coarse result, and the standard deviation of the fine samples (R,).
    """
    views = direction / direction.norm(dim=-1, keepdim=True)
    t = torch.linspace(0.0, 1.0, samples[0]).to(origin)
    depths = (near * (1.0 - t) + far * t).expand(len(origin), -1)
    depths = depths if generator is None else jitter_depths(depths, generator)
    first = composite(_along(coarse, origin, direction, views, depths), depths, direction, white)
    mids = 0.5 * (depths[:, 1:] + depths[:, :-1])
    extra = sample_by_weights(mids, first.weights[:, 1:-1], samples[1], generator).detach()
    depths = torch.cat([depths, extra], -1).sort(-1).values
    second = composite(_along(fine or coarse, origin, direction, views, depths), depths, direction, white)
    return second, first, extra.std(-1, unbiased=False)


def _along(network: NerfMlp, origin: Tensor, direction: Tensor, views: Tensor, depths: Tensor) -> Tensor:
    points = origin[:, None] + depths[..., None] * direction[:, None]
    return query(network, points, views if network.config.view_dim else None)


def photo_loss(fine: Tensor, coarse: Tensor, target: Tensor) -> Tensor:
    """Equation 6, averaged: squared errors of both renderings against the pixels (R, 3)."""
    return (fine - target).square().mean() + (coarse - target).square().mean()
