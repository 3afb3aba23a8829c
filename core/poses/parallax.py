# SPDX-License-Identifier: GPL-3.0-or-later
"""Did the camera move at all? A camera that only turned on the spot fits a made-up plane with tiny errors.

Mappers explain a pure rotation by cameras that move along a flat scene: 0.04 px, 5 degrees of parallax, all wrong (the
homographies are the same up to the focal length). So the simpler story is tried first: one focal length, rotations only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cameras import rotations
from .sfm_process import Pair
from .working_copies import WorkingSet

STILL = 0.0015
"""Of the long side: residual below which a rotation explains a pair (2.4 px at 1600; leaves room for distortion)."""
FOCALS = np.geomspace(0.5, 5.0, 16)
"""Focal lengths tried, over the long side."""


def only_turned(pairs: list[Pair], keypoints: dict[str, NDArray[np.float32]], working: WorkingSet) -> bool:
    """True where one focal length and a rotation per pair explain nearly all pairs of pictures."""
    strong = [pair for pair in pairs if len(pair.matches) >= 50]
    strong = strong[:: max(1, len(strong) // 100)]
    if not strong:
        return False
    size = {copy.name: np.array([copy.width, copy.height], np.float64) for copy in working.copies}
    sides = [float(size[pair.a].max()) for pair in strong]
    best = np.inf
    for focal in FOCALS:
        misses = [
            _miss(pair, keypoints, size, focal) / side for pair, side in zip(strong, sides, strict=True)
        ]
        best = min(best, float(np.percentile(misses, 80)))  # the widest pairs show parallax first
    return best < STILL


def _miss(
    pair: Pair, keypoints: dict[str, NDArray[np.float32]], size: dict[str, NDArray[np.float64]], focal: float
) -> float:
    """Median distance in pixels after the best rotation (Kabsch on the rays, twice, the second time without outliers)."""
    matches = pair.matches[:: max(1, len(pair.matches) // 100)]
    rays = []
    for name, rows in ((pair.a, matches[:, 0]), (pair.b, matches[:, 1])):
        flat = (keypoints[name][rows] - size[name] / 2) / (focal * size[name].max())
        ray = np.c_[flat, np.ones(len(flat))]
        rays.append(ray / np.linalg.norm(ray, axis=1, keepdims=True))
    a, b = rays
    weight = np.ones(len(a))
    error = np.zeros(len(a))
    for _ in range(3):
        rotation = rotations.nearest((b * weight[:, None]).T @ a)
        error = np.linalg.norm(a @ rotation.T - b, axis=1)
        weight = (error <= 2 * np.median(error) + 1e-12).astype(np.float64)
    return float(np.median(error)) * focal * float(size[pair.a].max())
