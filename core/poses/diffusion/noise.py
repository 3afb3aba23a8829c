# SPDX-License-Identifier: GPL-3.0-or-later
"""The noise process of denoising diffusion models (Ho et al. 2020, DDPM; Song et al. 2021, DDIM), in closed form.

`t` counts from 0, the clean picture, to `STEPS`, noise alone. `signal(t)` is the papers' alpha-bar.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 1000
FIRST, LAST = 1e-4, 0.02
"""Variances of the first and the last step, linear between them (DDPM, section 4)."""
CLEAN = 150
"""Half of the draws lie below this step: poses must be sharp where there is little noise (spec A.3)."""

_BETA = torch.cat(
    [torch.zeros(1, dtype=torch.float64), torch.linspace(FIRST, LAST, STEPS, dtype=torch.float64)]
)
_SIGNAL = torch.cumprod(1 - _BETA, 0)


def signal(t: Tensor) -> Tensor:
    """Share of the picture's variance left at steps t (integers 0 .. STEPS, any shape): alpha-bar, float32."""
    return _SIGNAL.to(t.device)[t].float()


def draw_steps(count: int, generator: torch.Generator, uniform: bool = False) -> Tensor:
    """(count,) int64: half uniform on 0 .. STEPS, half on 0 .. CLEAN; `uniform`: all of them on 0 .. STEPS."""
    high = torch.full((count,), STEPS + 1)
    if not uniform:
        high[torch.rand(count, generator=generator) < 0.5] = CLEAN + 1
    return (torch.rand(count, generator=generator) * high).long()


def add_noise(clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """x_t = sqrt(alpha-bar) x_0 + sqrt(1 - alpha-bar) noise (DDPM, eq. 4); clean (B, C, H, W) in -1..1, t (B,)."""
    kept = signal(t).view(-1, 1, 1, 1)
    return kept.sqrt() * clean + (1 - kept).sqrt() * noise


def loss_weight(t: Tensor, limit: float = 5.0) -> Tensor:
    """What a squared error of x_0 weighs in the papers' error of the noise: alpha-bar / (1 - alpha-bar), at most `limit`.

    Divided by `limit`, so that it is 1 for a clean picture. |eps - eps_hat|^2 = alpha-bar / (1 - alpha-bar) |x_0 - x_0_hat|^2.
    """
    kept = signal(t)
    return (kept / (1 - kept).clamp_min(1e-8)).clamp_max(limit) / limit


def posterior(x_t: Tensor, clean: Tensor, t: int) -> tuple[Tensor, float]:
    """Mean and variance of x_{t-1} given x_t and x_0 (DDPM, eq. 7); the variance is 0 at t = 1."""
    beta, now, before = float(_BETA[t]), float(_SIGNAL[t]), float(_SIGNAL[t - 1])
    mean = (before**0.5 * beta * clean + (1 - beta) ** 0.5 * (1 - before) * x_t) / (1 - now)
    return mean, beta * (1 - before) / (1 - now)


def implicit_step(x_t: Tensor, clean: Tensor, t: int, target: int) -> Tensor:
    """x_target from x_t and the estimate of x_0, without fresh noise (DDIM, eq. 12 with sigma = 0); target < t."""
    now, then = float(_SIGNAL[t]), float(_SIGNAL[target])
    noise = (x_t - now**0.5 * clean) / (1 - now) ** 0.5
    return then**0.5 * clean + (1 - then) ** 0.5 * noise
