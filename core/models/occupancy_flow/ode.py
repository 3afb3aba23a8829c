# SPDX-License-Identifier: GPL-3.0-or-later
"""Dormand-Prince 5(4) with the step control and dense output that Occupancy Flow was published with.

The published tolerance leaves errors of 6e-4 of an object, so the same steps are needed for the same meshes. They can be had
to rounding only: the first step is so short that its error estimate (1e-9 of the tolerance, squared) is rounding to a
twentieth, and it sets the length of the second. One unit in the last place of the velocities moves the end by 5e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Derivative = Callable[[float, Tensor], Tensor]
"""(time, state (B, N)) -> its derivative (B, N)."""

NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (
    35 / 384 - 1951 / 21600,
    0.0,
    500 / 1113 - 22642 / 50085,
    125 / 192 - 451 / 720,
    -2187 / 6784 + 12231 / 42400,
    11 / 84 - 649 / 6300,
    -1 / 60,
)
MIDDLE = (
    6025192743 / 30085553152 / 2,
    0.0,
    51252292925 / 65400821598 / 2,
    -2691868925 / 45128329728 / 2,
    187940372067 / 1594534317056 / 2,
    -1776094331 / 19743644256 / 2,
    11237099 / 235043384 / 2,
)
"""Weights of the slopes for the state in the middle of a step (Shampine 1986)."""


def integrate(
    derivative: Derivative, state: Tensor, times: Sequence[float], rtol: float = 1e-3, atol: float = 1e-5
) -> tuple[list[Tensor], int]:
    """States at ascending times after times[0], where `state` (B, N) lies, and the number of evaluations.

    Args:
        derivative: right-hand side.
        state: (B, N); a part with zero derivative lowers the mean error, as published.
        times: ascending, the first is the start.
        rtol, atol: tolerances of one step, root mean square over the whole state.
    """
    t0 = t1 = float(times[0])
    slope = derivative(t0, state)
    step = first_step(derivative, t0, state, slope, rtol, atol)
    evaluations, out = 2, []
    coefficients = [state] * 5
    for wanted in map(float, times[1:]):
        while wanted > t1:
            k = [slope]
            for node, weights in zip(NODES, STAGES, strict=True):
                k.append(derivative(t1 + node * step, state + _weighted(step, weights, k)))
            evaluations += len(NODES)
            new = state + _weighted(step, STAGES[-1], k)
            tolerance = atol + rtol * torch.maximum(state.abs(), new.abs())
            ratio = float((_weighted(step, ERROR, k) / tolerance).square().mean())
            if ratio <= 1.0:
                coefficients = _quartic(state, new, state + _weighted(step, MIDDLE, k), k[0], k[-1], step)
                t0, t1 = t1, t1 + step
                state, slope = new, k[-1]
            step = next_step(step, ratio)
        x = (wanted - t0) / (t1 - t0) if t1 > t0 else 0.0
        out.append(sum((c * x**i for i, c in enumerate(coefficients)), torch.zeros_like(state)))
    return out, evaluations


def first_step(
    derivative: Derivative, t: float, state: Tensor, slope: Tensor, rtol: float, atol: float
) -> float:
    """Starting step of Hairer, Norsett & Wanner (II.4) for order 4; one evaluation."""
    scale = atol + state.abs() * rtol
    d0, d1 = _rms(state / scale), _rms(slope / scale)
    h0 = 1e-6 if min(d0, d1) < 1e-5 else 0.01 * d0 / d1
    d2 = _rms((derivative(t + h0, state + h0 * slope) - slope) / scale) / h0
    h1 = max(1e-6, h0 * 1e-3) if max(d1, d2) <= 1e-15 else (0.01 / max(d1, d2)) ** (1 / 5)
    return min(100 * h0, h1)


def next_step(step: float, ratio: float) -> float:
    """Step after a mean square error ratio: safety 0.9, growth at most 10, shrinkage only after a rejection, to 0.2."""
    if ratio == 0.0:
        return step * 10.0
    shrink = 1.0 if ratio < 1.0 else 0.2
    return step / max(0.1, min(ratio**0.1 / 0.9, 1.0 / shrink))


def _weighted(step: float, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """sum (step w_i) k_i in this order: the first error is all rounding, and it sets the second step."""
    return sum(((step * w) * k for w, k in zip(weights, slopes, strict=False)), torch.zeros_like(slopes[0]))


def _quartic(y0: Tensor, y1: Tensor, middle: Tensor, f0: Tensor, f1: Tensor, step: float) -> list[Tensor]:
    """Coefficients of 1, x, ... x^4 through both ends with their slopes and the middle."""
    a = 2 * step * (f1 - f0) - 8 * (y1 + y0) + 16 * middle
    b = step * (5 * f0 - 3 * f1) + 18 * y0 + 14 * y1 - 32 * middle
    c = step * (f1 - 4 * f0) - 11 * y0 - 5 * y1 + 16 * middle
    return [y0, step * f0, c, b, a]


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
