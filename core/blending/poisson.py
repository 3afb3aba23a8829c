# SPDX-License-Identifier: GPL-3.0-or-later
"""Seamless cloning (Perez et al. 2003, equation 7 with the source's gradients): one sparse solve, no OpenCV filter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def seamless_clone(
    source: NDArray[np.float32], destination: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The source's gradients inside the mask, the destination's colours on its border and beyond.

    Where the mask touches the picture's own border nothing is asked there (the gradient across it is free).

    Args:
        source: (H, W, C) float32.
        destination: (H, W, C) float32.
        mask: (H, W). All of the picture: the source with the destination's mean colour; nothing: the destination.

    Returns:
        (H, W, C) float32, not clipped.
    """
    out = destination.astype(np.float32).copy()
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return out
    if mask.all():
        return np.asarray(source + (destination - source).mean((0, 1)), np.float32)
    height, width = mask.shape
    number = np.full(mask.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    degree = np.zeros(len(rows))
    wanted = np.zeros((len(rows), source.shape[2]))
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for down, right in NEIGHBOURS:
        y, x = rows + down, columns + right
        there = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        own, y, x = np.nonzero(there)[0], y[there], x[there]
        degree[own] += 1
        wanted[own] += source[rows[own], columns[own]].astype(np.float64) - source[y, x]
        other = number[y, x]
        fixed = other < 0
        wanted[own[fixed]] += destination[y[fixed], x[fixed]]
        pairs.append((own[~fixed], other[~fixed]))
    first = np.concatenate([np.arange(len(rows)), *(own for own, _ in pairs)])
    second = np.concatenate([np.arange(len(rows)), *(other for _, other in pairs)])
    values = np.concatenate([degree, *(-np.ones(len(own)) for own, _ in pairs)])
    system = coo_matrix((values, (first, second)), shape=(len(rows), len(rows))).tocsc()
    out[rows, columns] = splu(system).solve(wanted)
    return out


def with_ring(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """(H, W) the mask and a band of `width` pixels around it."""
    y, x = np.ogrid[-width : width + 1, -width : width + 1]
    return np.asarray(binary_dilation(mask, x * x + y * y <= width * width))
