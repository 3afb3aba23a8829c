# SPDX-License-Identifier: GPL-3.0-or-later
"""Did the camera move at all, and if it only turned, how? On the spot it fits a made-up plane with tiny errors.

Mappers explain a pure rotation by cameras that move along a flat scene: 0.04 px, 5 degrees of parallax, all wrong (the
homographies are the same up to the focal length). So the simpler story is tried first: one focal length, rotations only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cameras import rotations
from .sfm_process import Pair
from .working_copies import WorkingSet

Keypoints = dict[str, NDArray[np.float32]]
STILL = 0.0015
"""Of the long side: residual below which a rotation explains a pair (2.4 px at 1600; leaves room for distortion)."""
FOCALS = np.geomspace(0.5, 5.0, 16)
"""Focal lengths tried, over the long side."""


def only_turned(pairs: list[Pair], keypoints: Keypoints, working: WorkingSet) -> bool:
    """True where one focal length and a rotation per pair explain nearly all pairs of pictures."""
    return _best_focal(pairs, keypoints, working)[1] < STILL


def turned_cameras(
    pairs: list[Pair], keypoints: Keypoints, working: WorkingSet
) -> tuple[float, dict[str, NDArray[np.float64]]]:
    """Focal length over the long side, and picture -> rotation (3, 3) world-to-camera, for a camera that only turned.

    Rotations follow the pairs with most matches (a maximum spanning tree) from the picture with most of them; the frame
    is that picture's. Pictures without a link to it are left out.
    """
    focal = _best_focal(pairs, keypoints, working)[0]
    size = _sizes(working)
    strength: dict[str, int] = {}
    for pair in pairs:
        for name in (pair.a, pair.b):
            strength[name] = strength.get(name, 0) + len(pair.matches)
    first = max(strength, key=lambda name: strength[name])
    found = {first: np.eye(3)}
    strong = sorted((p for p in pairs if len(p.matches) >= 15), key=lambda p: -len(p.matches))
    while True:
        link = next((p for p in strong if (p.a in found) != (p.b in found)), None)
        if link is None:
            return focal, found
        turn = _rotation(link, keypoints, size, focal)[0]
        if link.a in found:
            found[link.b] = turn @ found[link.a]
        else:
            found[link.a] = turn.T @ found[link.b]


def _sizes(working: WorkingSet) -> dict[str, NDArray[np.float64]]:
    return {copy.name: np.array([copy.width, copy.height], np.float64) for copy in working.copies}


def _best_focal(pairs: list[Pair], keypoints: Keypoints, working: WorkingSet) -> tuple[float, float]:
    """Focal length over the long side under which rotations explain the pairs best, and what is left of the long side."""
    strong = [pair for pair in pairs if len(pair.matches) >= 50]
    strong = strong[:: max(1, len(strong) // 100)]
    size = _sizes(working)
    best = float(FOCALS[0]), np.inf
    for focal in FOCALS if strong else ():
        misses = [_rotation(pair, keypoints, size, focal)[1] / float(size[pair.a].max()) for pair in strong]
        worst = float(np.percentile(misses, 80))  # the widest pairs show parallax first
        best = min(best, (float(focal), worst), key=lambda item: item[1])
    return best


def _rotation(
    pair: Pair, keypoints: Keypoints, size: dict[str, NDArray[np.float64]], focal: float
) -> tuple[NDArray[np.float64], float]:
    """Best rotation (Kabsch on the rays, twice more without outliers) and the median distance in pixels after it."""
    matches = pair.matches[:: max(1, len(pair.matches) // 100)]
    rays = []
    for name, rows in ((pair.a, matches[:, 0]), (pair.b, matches[:, 1])):
        flat = (keypoints[name][rows] - size[name] / 2) / (focal * size[name].max())
        ray = np.c_[flat, np.ones(len(flat))]
        rays.append(ray / np.linalg.norm(ray, axis=1, keepdims=True))
    a, b = rays
    weight = np.ones(len(a))
    error, rotation = np.zeros(len(a)), np.eye(3)
    for _ in range(3):
        rotation = rotations.nearest((b * weight[:, None]).T @ a)
        error = np.linalg.norm(a @ rotation.T - b, axis=1)
        weight = (error <= 2 * np.median(error) + 1e-12).astype(np.float64)
    return rotation, float(np.median(error)) * focal * float(size[pair.a].max())
