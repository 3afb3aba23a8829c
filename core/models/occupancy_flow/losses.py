# SPDX-License-Identifier: GPL-3.0-or-later
"""Training losses of Occupancy Flow (section 3.3): means over points, then over the batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..onet.network import kl_per_item


def occupancy_loss(logits: Tensor, occupancies: Tensor) -> Tensor:
    """Binary cross entropy at t = 0, or at the transported points of a later time (equation 6): (B, T) both."""
    return F.binary_cross_entropy_with_logits(logits, occupancies)


def correspondence_loss(moved: Tensor, target: Tensor) -> Tensor:
    """Mean distance between transported and true positions (B, L, T, 3) (equation 7)."""
    return (moved - target).norm(dim=-1).mean()


def generative_loss(reconstruction: Tensor, mean: Tensor, logstd: Tensor, weight: float = 1e-4) -> Tensor:
    """Reconstruction plus the KL term of one code (B, z_dim)."""
    return reconstruction + weight * kl_per_item(mean, logstd).mean()
