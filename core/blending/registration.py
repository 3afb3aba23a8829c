# SPDX-License-Identifier: GPL-3.0-or-later
"""Local alignment: scale and translation that lay a part of the reference over the original's (3D-aware blending, section 3.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]

MESH_FROM_WORLD: Floats = np.array([[0.0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
"""Axes of the published meshes, as which the original registers: (x, y, z) = (-Z, Y, X) of the mesh is inverted by it."""
LIMITS = (0.75, 1.25)
"""Of the scale."""


def register(
    source: Floats, target: Floats, per_axis: bool = False, steps: int = 20, threshold: float = 1e-6
) -> tuple[Floats, float]:
    """Iterative closest points with scale and translation only.

    Args:
        source: (N, 3) points of the reference's part.
        target: (M, 3) points of the original's.
        per_axis: a scale for each axis (offered by the original, not used in its release).
        steps: at most.
        threshold: the cost must fall by so much to go on.

    Returns:
        (4, 4) [s I | t] that takes source to target, and the mean square difference of coordinates.

    Raises:
        ValueError: fewer than two points, or all in one place.
    """
    if len(source) < 2 or len(target) < 2:
        raise ValueError(f"{len(source)} and {len(target)} points cannot be aligned")
    tree, points, total = cKDTree(target), np.asarray(source, np.float64), np.eye(4)
    before = np.inf
    for _ in range(steps):
        near = target[tree.query(points)[1]]
        matrix = _scale_and_translation(points, near, per_axis)
        points = points @ matrix[:3, :3].T + matrix[:3, 3]
        total = matrix @ total
        cost = float(np.mean((near - points) ** 2))
        if before - cost < threshold:
            break
        before = cost
    return total, cost


def _scale_and_translation(a: Floats, b: Floats, per_axis: bool) -> Floats:
    """(4, 4) that gives `a` the mean and the spread of `b`, point for point (N, 3)."""
    mean_a, mean_b = a.mean(0), b.mean(0)
    over = 0 if per_axis else None
    spread_a, spread_b = (((x - m) ** 2).sum(over) ** 0.5 for x, m in ((a, mean_a), (b, mean_b)))
    if np.any(spread_a < 1e-12):
        raise ValueError("the points to align lie in one place")
    scale = np.broadcast_to(spread_b / spread_a, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(scale)
    matrix[:3, 3] = mean_b - scale * mean_a
    return matrix


def in_world(matrix: Floats) -> Floats:
    """A matrix found in the axes of the published meshes, in the generator's."""
    return MESH_FROM_WORLD @ matrix @ MESH_FROM_WORLD.T


def limited(matrix: Floats) -> Floats:
    """The matrix with its scales kept within `LIMITS`; the translation stays, as in the original."""
    out = matrix.copy()
    diagonal = np.arange(3)
    out[diagonal, diagonal] = np.clip(out[diagonal, diagonal], *LIMITS)
    return out
