# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume rendering weights along rays (Max 1995; NeRF eq. 3) in the variants of NeRF, GRAF, GIRAFFE and CAMPARI."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FAR = 1e10
"""Length of the last interval in the published renderers."""


def ray_weights(density: Tensor, lengths: Tensor, epsilon: float = 1e-10) -> Tensor:
    """w_i = alpha_i prod_{j<i} (1 - alpha_j + epsilon), alpha_i = 1 - exp(-relu(density_i) length_i).

    Args:
        density: (..., S) raw density; negative values count as zero.
        lengths: (..., S) lengths of the intervals, in the units of the ray's world.
        epsilon: 1e-10 (NeRF, GRAF, GIRAFFE) or 1e-6 (CAMPARI).

    Returns:
        (..., S) weights; their sum is the opacity.
    """
    alpha = 1.0 - torch.exp(-F.relu(density) * lengths)
    transmitted = torch.cumprod(1.0 - alpha + epsilon, -1)
    return alpha * torch.cat([torch.ones_like(alpha[..., :1]), transmitted[..., :-1]], -1)


def interval_lengths(depths: Tensor, ray_lengths: Tensor, last: Tensor | float = FAR) -> Tensor:
    """(t_{i+1} - t_i) |d| with `last` |d| for the last one.

    Args:
        depths: (..., S) depths along the optical axis.
        ray_lengths: (...) norm of the unnormalised directions.
        last: (...) or a number: the last interval before scaling by |d|.
    """
    steps = depths[..., 1:] - depths[..., :-1]
    end = torch.as_tensor(last, dtype=depths.dtype, device=depths.device).expand(depths.shape[:-1])[..., None]
    return torch.cat([steps, end], -1) * ray_lengths[..., None]


def jitter_depths(depths: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Stratified sampling: each depth moves uniformly between the midpoints to its neighbours (training only)."""
    mids = 0.5 * (depths[..., 1:] + depths[..., :-1])
    upper = torch.cat([mids, depths[..., -1:]], -1)
    lower = torch.cat([depths[..., :1], mids], -1)
    noise = torch.rand(depths.shape, generator=generator, dtype=depths.dtype, device=depths.device)
    return lower + (upper - lower) * noise
