# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume rendering of a signed distance (Wang et al. 2021, NeuS, section 3.2), with the mask of the sparse volume."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .field import NeuralSurface

OUTSIDE = 100.0
"""Signed distance where no picture determines the volume."""


@dataclass(frozen=True)
class Rendered:
    """What a ray shows; (R, ...)."""

    colour: Tensor
    """(R, 3) on the background."""
    depth: Tensor
    """(R, 1) sum of weight times distance along the ray."""
    opacity: Tensor
    """(R, 1) sum of weights."""
    reliable: Tensor
    """(R, 1) bool: more than eight samples of the ray are seen by more than one picture."""


def render(
    field: NeuralSurface,
    origins: Tensor,
    directions: Tensor,
    near: float,
    far: float,
    sharpness: float,
    samples: int = 64,
    fine: int = 64,
    eye: Tensor | None = None,
    background: float = 1.0,
    ratio: float = 1.0,
) -> Rendered:
    """Colours of rays without jitter.

    Args:
        field: from `SparseNeuS.reconstruct`.
        origins: (R, 3).
        directions: (R, 3) unit.
        near: distance at which sampling starts; may be negative.
        far: distance at which it ends.
        sharpness: `SparseNeuS.sharpness`.
        samples: evenly spaced ones.
        fine: importance samples, in four rounds.
        eye: camera centre (3,) for the colours; None: the rays' origins.
        background: its grey value.
        ratio: 1 when trained; it rises from 0 during training and softens the cosine (NeuS's annealing).
    """
    z = near + (far - near) * torch.linspace(0, 1, samples, device=origins.device).expand(len(origins), -1)
    sdf, inside = _distances(field, origins, directions, z, everywhere=True)
    for level in range(4):
        new = _importance(z, sdf, inside, 64.0 * 2**level, fine // 4)
        new_sdf, new_inside = _distances(field, origins, directions, new)
        z, order = torch.cat([z, new], 1).sort(1)
        sdf = torch.cat([sdf, new_sdf], 1).gather(1, order)
        inside = torch.cat([inside, new_inside], 1).gather(1, order)
    last = torch.full_like(z[:, :1], (far - near) / samples)
    step = torch.cat([z[:, 1:] - z[:, :-1], last], 1)  # (R, S)
    middle = z + step / 2
    points = origins[:, None] + middle[..., None] * directions[:, None]  # (R, S, 3)
    sdf, inside = _distances(field, origins, directions, middle)
    normals = torch.zeros_like(points)
    normals[inside] = field.gradient(points[inside])
    facing = -(directions[:, None] * normals).sum(-1)
    cosine = -(torch.relu(0.5 * facing + 0.5) * (1 - ratio) + torch.relu(facing) * ratio)
    alpha = _opacity(sdf, cosine, step, sharpness).clamp(0, 1) * inside
    weights = alpha * _transmittance(alpha)
    colours = torch.zeros_like(points)
    seen = torch.zeros(points.shape[:2], dtype=torch.int64, device=points.device)
    towards = (origins if eye is None else eye.expand_as(origins))[:, None] - points
    towards = towards / (towards.norm(dim=-1, keepdim=True) + 1e-6)
    for rays in torch.arange(len(points), device=points.device).split(32):
        found, by = field.colour(points[rays].flatten(0, 1), towards[rays].flatten(0, 1))
        colours[rays] = found.unflatten(0, (len(rays), -1))
        seen[rays] = by.sum(0).unflatten(0, (len(rays), -1))
    opacity = weights.sum(1, keepdim=True)
    colour = (weights[..., None] * colours).sum(1) + background * (1 - opacity)
    reliable = (seen > 1).sum(1, keepdim=True) > 8
    return Rendered(colour, (weights * middle).sum(1, keepdim=True), opacity, reliable)


def _distances(
    field: NeuralSurface, origins: Tensor, directions: Tensor, z: Tensor, everywhere: bool = False
) -> tuple[Tensor, Tensor]:
    """Signed distances (R, S) at the samples, 100 where the volume is not determined, and where it is.

    `everywhere`: what the network says outside too, as the original does for its first samples.
    """
    points = (origins[:, None] + z[..., None] * directions[:, None]).flatten(0, 1)
    inside = field.determined(points)
    asked = torch.ones_like(inside) if everywhere else inside
    sdf = torch.full_like(points[:, 0], OUTSIDE)
    sdf[asked] = field.geometry(points[asked])
    return sdf.view_as(z), inside.view_as(z)


def _importance(z: Tensor, sdf: Tensor, inside: Tensor, sharpness: float, count: int) -> Tensor:
    """Inverse-transform samples (R, count) where the surface is likely, u = (k + 0.5)/count."""
    step = z[:, 1:] - z[:, :-1]
    cosine = (sdf[:, 1:] - sdf[:, :-1]) / (step + 1e-5)
    before = torch.cat([torch.zeros_like(cosine[:, :1]), cosine[:, :-1]], 1)
    both = (inside[:, 1:] & inside[:, :-1]).to(z)
    cosine = torch.minimum(before, cosine).clamp(-10, 0) * both
    alpha = _opacity((sdf[:, 1:] + sdf[:, :-1]) / 2, cosine, step, sharpness) * both
    weights = alpha * _transmittance(alpha) + 1e-5
    cdf = torch.cumsum(weights / weights.sum(1, keepdim=True), 1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], 1)  # (R, S)
    u = ((torch.arange(count, device=z.device) + 0.5) / count).expand(len(z), -1).contiguous()
    above = torch.searchsorted(cdf, u, right=True)
    below, above = (above - 1).clamp(min=0), above.clamp(max=cdf.shape[1] - 1)
    low, high = cdf.gather(1, below), cdf.gather(1, above)
    width = torch.where(high - low < 1e-5, torch.ones_like(low), high - low)
    z_low, z_high = z.gather(1, below), z.gather(1, above)
    return z_low + (u - low) / width * (z_high - z_low)


def _opacity(sdf: Tensor, cosine: Tensor, step: Tensor, sharpness: float) -> Tensor:
    """NeuS equation 13: (S(previous) - S(next)) / S(previous), S the sigmoid of the scaled distance."""
    before = torch.sigmoid((sdf - cosine * step / 2) * sharpness)
    after = torch.sigmoid((sdf + cosine * step / 2) * sharpness)
    return (before - after + 1e-5) / (before + 1e-5)


def _transmittance(alpha: Tensor) -> Tensor:
    """Product of 1 - alpha + 1e-7 over the earlier samples."""
    clear = torch.cumprod(1 - alpha + 1e-7, 1)
    return torch.cat([torch.ones_like(clear[:, :1]), clear[:, :-1]], 1)
