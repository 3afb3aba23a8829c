# SPDX-License-Identifier: GPL-3.0-or-later
"""Losses of the adversarial systems: binary cross entropy and the R1 penalty (Mescheder et al. 2018, eq. 9)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def bce_loss(logits: Tensor, real: bool) -> Tensor:
    """Mean binary cross entropy of discriminator outputs against "real" (1) or "generated" (0)."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def r1_per_item(logits: Tensor, images: Tensor) -> Tensor:
    """Squared norm of the gradient of the summed logits by each real image, (B,); without the factor 1/2.

    `images` must require gradients. The public systems take 10 times its mean.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(1)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, beta: float = 0.999) -> None:
    """Exponential moving average of the parameters (the copy that public GAN checkpoints call `generator_test`)."""
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1.0 - beta)
    for kept, latest in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(latest)
