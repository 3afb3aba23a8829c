# SPDX-License-Identifier: GPL-3.0-or-later
"""The published compositing rules of TripoSR and OpenLRM, for pictures that must equal theirs.

OpenLRM's march is that of Neural Radiance Fields with the mid-point rule of EG3D (Chan et al. 2022, supplement) and the
importance sampling of Mildenhall et al. 2020, section 5.2. Our own previews use `core.render`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...fields.triplane import TriplaneField

_FLOAT_MAX = torch.finfo(torch.float32).max


def slab(origins: Tensor, directions: Tensor, radius: float, floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """Entry and exit of rays (..., 3) in the cube |x| <= radius; components below `floor` count as +floor."""
    d = torch.where(directions.abs() < floor, torch.full_like(directions, floor), directions)
    a, b = (-radius - origins) / d, (radius - origins) / d
    return torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)


def render_triposr(
    field: TriplaneField, origins: Tensor, directions: Tensor, samples: int
) -> tuple[Tensor, Tensor, Tensor]:
    """TripoSR: mid-point samples, constant step 1/samples in alpha whatever the chord, white background.

    Args:
        field: tri-plane field.
        origins: (..., 3).
        directions: (..., 3) unit.
        samples: per ray.

    Returns:
        Colours (..., 3), t_near and t_far (...). A ray that misses the box is white (the original raises there).
    """
    near, far = slab(origins, directions, 0.999 * field.rule.radius, 1e-6)
    near = near.clamp(min=0)
    hit = far - near > 0.01
    tau = (torch.arange(samples, device=origins.device) + 0.5) / samples
    t = near[hit][:, None] * (1 - tau) + far[hit][:, None] * tau  # (R, S)
    points = origins[hit][:, None] + t[..., None] * directions[hit][:, None]  # (R, S, 3)
    raw = field.raw(points.flatten(0, 1)).unflatten(0, t.shape)
    alpha = 1 - torch.exp(-field.density_of(raw[..., 0]) / samples)
    weights = alpha * transmittance(alpha)
    colours = torch.ones_like(origins)
    seen = (weights[..., None] * field.colour_of(raw[..., 1:])).sum(-2)
    colours[hit] = seen + 1 - weights.sum(-1, keepdim=True)
    return colours, near, far


def transmittance(alpha: Tensor, epsilon: float = 1e-10) -> Tensor:
    """alpha (..., S) -> product of (1 - alpha + epsilon) over the earlier samples, (..., S)."""
    clear = torch.cumprod(1 - alpha + epsilon, -1)
    return torch.cat([torch.ones_like(clear[..., :1]), clear[..., :-1]], -1)


def render_openlrm(
    field: TriplaneField,
    origins: Tensor,
    directions: Tensor,
    noise_coarse: Tensor,
    noise_fine: Tensor,
    outside: float = -_FLOAT_MAX / 8,
) -> tuple[Tensor, Tensor, Tensor]:
    """OpenLRM: stratified and importance samples, densities averaged between neighbours, white background.

    Args:
        field: tri-plane field with box half-size 1.
        origins: (V, N, 3).
        directions: (V, N, 3) unit.
        noise_coarse: (V, N, n, 1) uniform numbers; n is the number of coarse samples.
        noise_fine: (V*N, m) uniform numbers; m is the number of fine samples.
        outside: raw density outside the cube: -largest float / 8 in 1.1, / 3 in 1.0.

    Returns:
        Colours (V, N, 3), depths (V, N, 1), weight sums (V, N, 1).
    """
    near, far = slab(origins, directions, 1.0)
    missed = far <= near
    if bool(missed.any()):
        valid = near[~missed]
        low, high = (valid.min(), valid.max()) if valid.numel() else (near.new_zeros(()), near.new_zeros(()))
        near, far = torch.where(missed, low, near), torch.where(missed, high, far)
    near, far = near[..., None], far[..., None]
    n = noise_coarse.shape[2]
    steps = torch.arange(n, device=near.device) / (n - 1)
    t = near + steps * (far - near) + noise_coarse[..., 0] * ((far - near) / (n - 1))  # (V, N, n)
    raw = _query(field, origins, directions, t, outside)
    _, _, weights = _march(field, raw, t)
    fine = _importance(t.flatten(0, 1), weights.flatten(0, 1), noise_fine).view(*t.shape[:2], -1)
    raw = torch.cat([raw, _query(field, origins, directions, fine, outside)], 2)
    t, order = torch.cat([t, fine], 2).sort(2)
    raw = raw.gather(2, order[..., None].expand_as(raw))
    colours, depths, weights = _march(field, raw, t)
    return colours, depths, weights.sum(2, keepdim=True)


def _query(field: TriplaneField, origins: Tensor, directions: Tensor, t: Tensor, outside: float) -> Tensor:
    """[raw density, colour] (V, N, S, 4) at the samples; black and empty outside the cube."""
    points = origins[..., None, :] + t[..., None] * directions[..., None, :]
    raw = field.raw(points.flatten(0, 2)).unflatten(0, t.shape)
    inside = (points.abs() <= 1).all(-1, keepdim=True)
    values = torch.cat([raw[..., :1], field.colour_of(raw[..., 1:])], -1)
    empty = torch.tensor([outside] + [0.0] * (values.shape[-1] - 1), device=t.device)
    return torch.where(inside, values, empty)


def _march(field: TriplaneField, values: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """values (V, N, S, 4), t (V, N, S) -> colours (V, N, 3), depths (V, N, 1), weights (V, N, S-1)."""
    step = t[..., 1:] - t[..., :-1]
    middle = (values[..., 1:, :] + values[..., :-1, :]) / 2
    t_middle = (t[..., 1:] + t[..., :-1]) / 2
    alpha = 1 - torch.exp(-field.density_of(middle[..., 0]) * step)
    weights = alpha * transmittance(alpha)
    total = weights.sum(-1, keepdim=True)
    colours = (weights[..., None] * middle[..., 1:]).sum(-2) + 1 - total
    depths = (weights * t_middle).sum(-1, keepdim=True) / total
    depths = torch.nan_to_num(depths, nan=float("inf")).clamp(t.min(), t.max())
    return colours, depths, weights


def _importance(t: Tensor, weights: Tensor, noise: Tensor) -> Tensor:
    """Inverse-transform samples (R, m) from depths t (R, n) and weights (R, n-1), smoothed as published."""
    smooth = F.avg_pool1d(F.max_pool1d(weights[:, None], 2, 1, 1), 2, 1)[:, 0] + 0.01  # (R, n-1)
    bins = (t[:, 1:] + t[:, :-1]) / 2  # (R, n-1)
    inner = smooth[:, 1:-1] + 1e-5  # (R, n-3)
    cdf = torch.cumsum(inner / inner.sum(-1, keepdim=True), -1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], -1)  # (R, n-2)
    index = torch.searchsorted(cdf, noise.contiguous(), right=True)
    below, above = (index - 1).clamp(min=0), index.clamp(max=inner.shape[-1])
    cdf_below, cdf_above = cdf.gather(1, below), cdf.gather(1, above)
    width = cdf_above - cdf_below
    width = torch.where(width < 1e-5, torch.ones_like(width), width)
    bin_below, bin_above = bins.gather(1, below), bins.gather(1, above)
    return bin_below + (noise - cdf_below) / width * (bin_above - bin_below)
