# SPDX-License-Identifier: GPL-3.0-or-later
"""DDIM (Song et al. 2021) as the original Zero123 runs it, which leaves out the noisiest step of its own list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
Draw = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Schedule:
    """Time steps of a run with their noise levels, in rising order; float64 on the CPU."""

    timesteps: Tensor
    """(n,) int64: 1, 1 + c, 1 + 2c ... with c = floor(training steps / steps)."""
    alphas: Tensor
    """(n,) cumulative product of 1 - beta at those steps."""
    alphas_prev: Tensor
    """(n,) the same one entry earlier; the first is that of training step 0."""
    sigmas: Tensor
    """(n,) eta sqrt((1 - a_prev)/(1 - a) (1 - a/a_prev)), Song et al. equation 16."""


def alphas_cumulative(steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> Tensor:
    """(steps,) float64: products of 1 - beta, beta = linspace(sqrt start, sqrt end)^2 (Stable Diffusion)."""
    beta = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - beta, 0)


def schedule(steps: int, eta: float = 1.0, cumulative: Tensor | None = None) -> Schedule:
    """The schedule for `steps` requested steps; its length may differ from `steps` (75 -> 77)."""
    alphas = alphas_cumulative() if cumulative is None else cumulative
    timesteps = 1 + torch.arange(0, len(alphas), len(alphas) // steps)
    timesteps = timesteps[timesteps < len(alphas)]
    a = alphas[timesteps]
    previous = torch.cat([alphas[:1], a[:-1]])
    sigmas = eta * ((1 - previous) / (1 - a) * (1 - a / previous)).sqrt()
    return Schedule(timesteps, a, previous, sigmas)


def sample(denoise: Denoiser, start: Tensor, plan: Schedule, draw: Draw | None = None) -> Tensor:
    """Run from the second noisiest step of the plan down to the first.

    Args:
        denoise: (latents, time steps (B,)) -> predicted noise, guidance included.
        start: (B, C, h, w) unit noise.
        plan: from `schedule`.
        draw: (how many steps are done, latents) -> fresh unit noise; None where eta is 0.

    Returns:
        Latents (B, C, h, w), still scaled by 0.18215.
    """
    z = start
    for done, i in enumerate(reversed(range(len(plan.timesteps) - 1))):
        a, previous, sigma = (float(v[i]) for v in (plan.alphas, plan.alphas_prev, plan.sigmas))
        e = denoise(z, plan.timesteps[i].to(z.device).expand(len(z)))
        clean = (z - (1 - a) ** 0.5 * e) / a**0.5
        z = previous**0.5 * clean + max(1 - previous - sigma**2, 0.0) ** 0.5 * e
        if draw is not None and sigma > 0:
            z = z + sigma * draw(done, z).to(z.dtype)
    return z
