# SPDX-License-Identifier: GPL-3.0-or-later
"""Exposure and white balance between photos: one factor per photo and channel, from points that several photos see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRONGEST = 1.6
"""Factors are held within 1 / 1.6 .. 1.6: more than that is not exposure."""


def solve_gains(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    colour_first: NDArray[np.float32],
    colour_second: NDArray[np.float32],
    weight: NDArray[np.float32],
    views: int,
) -> NDArray[np.float32]:
    """Factors that make the photos agree: robust least squares on the logarithms, geometric mean held at 1.

    Args:
        first, second: (N,) views that see the same point.
        colour_first, colour_second: (N, 3) sRGB there. An exposure factor in linear light is nearly one in sRGB too.
        weight: (N,) how far to trust the pair.
        views: number of views.

    Returns:
        (views, 3) float32. 1 for views without pairs. Cauchy weights (scale 0.1) keep highlights from counting.
    """
    gains = np.zeros((views, 3))
    clear = ((colour_first > 0.04) & (colour_second > 0.04)).all(1) & (
        (colour_first < 0.96) & (colour_second < 0.96)
    ).all(1)
    first, second, weight = first[clear], second[clear], weight[clear].astype(np.float64)
    if not len(first):
        return np.ones((views, 3), np.float32)
    difference = np.log(colour_first[clear].astype(np.float64)) - np.log(
        colour_second[clear].astype(np.float64)
    )
    for channel in range(3):
        for _ in range(6):
            rest = difference[:, channel] + gains[first, channel] - gains[second, channel]
            pull = weight / (1.0 + (rest / 0.1) ** 2)
            matrix = np.zeros((views, views))
            np.add.at(matrix, (first, first), pull)
            np.add.at(matrix, (second, second), pull)
            np.add.at(matrix, (first, second), -pull)
            np.add.at(matrix, (second, first), -pull)
            target = np.bincount(second, pull * difference[:, channel], views) - np.bincount(
                first, pull * difference[:, channel], views
            )
            # A weak pull to 1 decides the common factor, and views that nothing ties to the others.
            matrix += np.eye(views) * (1e-3 * pull.sum() / views + 1e-9)
            gains[:, channel] = np.linalg.solve(matrix, target)
    limit = np.log(STRONGEST)
    return np.exp(np.clip(gains, -limit, limit)).astype(np.float32)
