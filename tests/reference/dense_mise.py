# SPDX-License-Identifier: GPL-3.0-or-later
"""The published choice of grid points (Mescheder et al. 2019, section 3.3) on dense arrays: slow, and nothing is looked up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def dense_mise(
    field: Callable[[Array], Array], resolution: int, depth: int, level: float, box: float
) -> tuple[list[int], NDArray[np.int64]]:
    """Evaluate as `surface.mise.mise_values` is told to.

    Returns:
        Points per round, and the flat indices of all evaluated points, ascending.
    """
    n = resolution << depth
    known, wanted, high, low = (np.zeros((n + 1,) * 3, bool) for _ in range(4))
    start = slice(None, None, 1 << depth)
    wanted[start, start, start] = True
    edge = np.full((n,) * 3, 1 << depth, np.uint8)  # of the leaf around each unit cell
    rounds = []
    while wanted.any():
        points = np.argwhere(wanted)
        values = np.concatenate([field(box * (part / n - 0.5)) for part in np.array_split(points, 64)])
        index = tuple(points.T)
        high[index], low[index] = values >= level, values <= level
        rounds.append(len(points))
        known |= wanted
        wanted[:] = False
        for size in (
            1 << k for k in range(1, depth + 1)
        ):  # rising, so that no leaf is halved twice in a round
            active = (edge == size).reshape((resolution << depth) // size, size, -1, size, n // size, size)
            active = active[:, 0, :, 0, :, 0] & _any(high, size) & _any(low, size)
            for x, y, z in np.argwhere(active) * size:
                half = size // 2
                edge[x : x + size, y : y + size, z : z + size] = half
                wanted[x : x + size + 1 : half, y : y + size + 1 : half, z : z + size + 1 : half] = True
        wanted &= ~known
    return rounds, np.flatnonzero(known)


def _any(marks: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Whether a closed cube of this edge, one of the grid of such cubes, holds a marked point."""
    n = marks.shape[0] - 1
    for axis in range(3):
        marks = np.moveaxis(marks, axis, 0)
        inner = marks[:n].reshape(n // size, size, *marks.shape[1:]).any(1)
        marks = np.moveaxis(inner | marks[size::size], 0, axis)
    return marks
