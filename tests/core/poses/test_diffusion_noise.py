# SPDX-License-Identifier: GPL-3.0-or-later
"""The noise process against its closed forms, and draws against their distribution."""

from __future__ import annotations

import math

import torch
from maquette.core.poses.diffusion.noise import (
    CLEAN,
    STEPS,
    add_noise,
    draw_steps,
    implicit_step,
    loss_weight,
    posterior,
    signal,
)


def test_signal_is_the_product_of_one_minus_beta() -> None:
    # beta runs from 1e-4 to 0.02 in 1000 steps: the second is 1e-4 + 0.0199 / 999.
    assert signal(torch.tensor(0)) == 1.0
    assert math.isclose(float(signal(torch.tensor(1))), 0.9999, rel_tol=1e-6)
    assert math.isclose(float(signal(torch.tensor(2))), 0.9999 * (1 - 1e-4 - 0.0199 / 999), rel_tol=1e-6)
    # ln alpha-bar is about -sum beta - sum beta^2 / 2 = -10.05 - 0.0676: 4.0e-5 (DDPM's well-known end value).
    assert math.isclose(float(signal(torch.tensor(STEPS))), 4.04e-5, rel_tol=0.01)


def test_noisy_pictures_keep_the_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(4, 3, 64, 64, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    noisy = add_noise(clean, torch.tensor([0, 100, 500, 1000]), noise)
    assert torch.equal(noisy[0], clean[0])
    # 12288 values: the variance of unit normals is 1 within 4 sqrt(2 / 12288) = 0.05.
    assert ((noisy.var((1, 2, 3)) - 1).abs() < 0.05).all()
    assert (noisy[3] - noise[3]).abs().max() < 0.05


def test_a_step_back_and_on_again() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 3, 8, 8, generator=generator)
    at_600 = add_noise(clean, torch.tensor([600]), noise)
    # With the true picture as estimate DDIM stays on the line of the same noise.
    assert torch.allclose(
        implicit_step(at_600, clean, 600, 200), add_noise(clean, torch.tensor([200]), noise), atol=1e-5
    )
    assert torch.allclose(implicit_step(at_600, clean, 600, 0), clean, atol=1e-5)


def test_posterior_agrees_with_bayes() -> None:
    # x_{t-1} | x_0 is normal with variance 1 - abar_{t-1}; x_t | x_{t-1} has variance beta_t: precisions add up.
    t = 400
    now, before = (float(signal(torch.tensor(k))) for k in (t, t - 1))
    beta = 1 - now / before
    precision = 1 / (1 - before) + (1 - beta) / beta
    x_t, clean = torch.tensor([0.7]), torch.tensor([-0.4])
    mean, variance = posterior(x_t, clean, t)
    expected = (before**0.5 * clean / (1 - before) + (1 - beta) ** 0.5 * x_t / beta) / precision
    assert math.isclose(variance, 1 / precision, rel_tol=1e-3)
    assert torch.allclose(mean, expected, rtol=1e-3)
    assert posterior(x_t, clean, 1)[1] == 0.0


def test_weights_and_draws() -> None:
    # alpha-bar / (1 - alpha-bar) = 5 where alpha-bar = 5/6; below that the weight falls, above it is 1.
    t = torch.arange(STEPS + 1)
    weight = loss_weight(t)
    assert weight[0] == 1.0
    assert weight[signal(t) > 5 / 6].min() == 1.0
    middle = int((signal(t) - 0.5).abs().argmin())
    assert abs(float(weight[middle]) - 0.2) < 0.01
    generator = torch.Generator().manual_seed(0)
    drawn = draw_steps(4000, generator)
    # Half of the draws and 151 / 1001 of the other half lie at or below CLEAN: 0.575.
    assert abs(float((drawn <= CLEAN).float().mean()) - 0.575) < 0.03
    assert drawn.max() <= STEPS
    assert abs(float(draw_steps(4000, generator, uniform=True).float().mean()) - 500) < 20
