# SPDX-License-Identifier: GPL-3.0-or-later
"""Training losses of DVR (section 3.4 and supplementary 1.2). Sums over points; training divides them by the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .rendering import Occupancy


def l1_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Sum of |predicted - target| over masked points: predicted, target (B, N, C), mask (B, N)."""
    return (predicted - target).abs()[mask].sum()


def l2_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Sum of Euclidean distances over masked points."""
    return (predicted - target).norm(dim=-1)[mask].sum()


def image_gradient_loss(predicted: Tensor, target: Tensor, mask: Tensor, patch: int = 2) -> Tensor:
    """Difference of the picture's gradients at the corner of square patches that lie wholly in the mask.

    Args:
        predicted, target: (B, N, C), N = patches * patch^2, rows of a patch one after the other.
        mask: (B, N).
        patch: edge of a patch in pixels.
    """
    difference = (predicted - target).unflatten(1, (-1, patch, patch))  # (B, P, p, p, C)
    whole = mask.unflatten(1, (-1, patch * patch)).all(-1)
    horizontal = difference[:, :, 0, 1] - difference[:, :, 0, 0]
    vertical = difference[:, :, 1, 0] - difference[:, :, 0, 0]
    return torch.stack([horizontal, vertical]).norm(dim=0)[whole].sum()


def freespace_loss(logits: Tensor) -> Tensor:
    """Points that must be empty: logits at rays outside the mask."""
    return F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits), reduction="sum")


def occupancy_loss(logits: Tensor) -> Tensor:
    """Points that must be full: logits on rays inside the mask that hit nothing."""
    return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits), reduction="sum")


def smooth_normal_loss(
    occupancy: Occupancy, c: Tensor | None, points: Tensor, noise: Tensor, step: float = 1e-3
) -> Tensor:
    """Sum of |n(p) - n(p + noise)|: surface points (B, N, 3), noise uniform in +-0.5e-3, normals by central differences."""
    return (
        (_normals(occupancy, c, points, step) - _normals(occupancy, c, points + noise, step))
        .norm(dim=-1)
        .sum()
    )


def _normals(occupancy: Occupancy, c: Tensor | None, points: Tensor, step: float) -> Tensor:
    axes = step * torch.eye(3, dtype=points.dtype, device=points.device)
    slopes = [occupancy(points + axis, c) - occupancy(points - axis, c) for axis in axes]
    return -F.normalize(torch.stack(slopes, -1), dim=-1)
