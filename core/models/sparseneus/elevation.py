# SPDX-License-Identifier: GPL-3.0-or-later
"""Polar angle of the input picture from matches between four views beside it (One-2-3-45, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .cameras import camera_to_world, intrinsics, opencv

Array = NDArray[np.float64]
Matches = Mapping[tuple[int, int], Array]
COARSE = tuple(range(30, 150, 10))
AZIMUTH = 30
"""Of the input picture; the candidate cameras are its four near views."""


@dataclass(frozen=True)
class Elevation:
    """The estimate and what it was chosen from."""

    polar_deg: int
    """From +z: 0 top, 90 horizontal."""
    coarse_errors: Array
    fine_candidates: tuple[int, ...]
    fine_errors: Array


def candidate_cameras(polar_deg: float) -> Array:
    """(4, 4, 4) camera to world with OpenCV axes: 10 degrees above, below, left and right of the candidate."""
    around = [(polar_deg - 10, AZIMUTH), (polar_deg + 10, AZIMUTH), (polar_deg, 20), (polar_deg, 40)]
    return opencv(np.stack([camera_to_world(*pair) for pair in around]))


def estimate(matches: Matches, k: Array | None = None) -> Elevation | None:
    """Search over polar angles: every 10 degrees from 30 to 140, then every degree around the best.

    Args:
        matches: (i, j) with i < j -> (M, 5): x, y in view i, x, y in view j (pixels), confidence.
        k: (3, 3) intrinsics of the matched pictures.

    Returns:
        None when a pair of views has no match.
    """
    if any(len(pair) == 0 for pair in matches.values()) or len(matches) < 6:
        return None
    k = intrinsics() if k is None else k
    coarse = np.array([reprojection_error(matches, polar, k) for polar in COARSE])
    best = COARSE[int(coarse.argmin())]
    candidates = tuple(range(best - 10, best + 10))
    fine = np.array([reprojection_error(matches, polar, k) for polar in candidates])
    return Elevation(candidates[int(fine.argmin())], coarse, candidates, fine)


def reprojection_error(matches: Matches, polar_deg: float, k: Array) -> float:
    """How badly points triangulated from one pair of views fall on their matches in the others, pixels, summed."""
    world_to_cam = np.linalg.inv(candidate_cameras(polar_deg))[:, :3]
    projections = k @ world_to_cam  # (4, 3, 4)
    error = 0.0
    for start in range(3):
        first, second, *others = [(start + step) % 4 for step in range(4)]
        here, there, _ = _between(matches, first, second)
        points = triangulate(projections[first], projections[second], here, there)  # (M, 3)
        for other in others:
            from_first, in_other, confidence = _between(matches, first, other)
            distance, nearest = cKDTree(from_first).query(here)
            near = distance < 1
            projected = points[near] @ projections[other][:, :3].T + projections[other][:, 3]
            off = np.linalg.norm(projected[:, :2] / projected[:, 2:] - in_other[nearest[near]], axis=1)
            weight = confidence[nearest[near]]
            error += float((weight * off).sum() / weight.sum()) if weight.sum() > 0 else 0.0
    return error


def triangulate(p: Array, q: Array, x: Array, y: Array) -> Array:
    """Linear triangulation (Hartley and Zisserman, 12.2): projections (3, 4), pixels (M, 2) each -> (M, 3)."""
    rows = [
        x[:, :1] * p[2] - p[0],
        x[:, 1:] * p[2] - p[1],
        y[:, :1] * q[2] - q[0],
        y[:, 1:] * q[2] - q[1],
    ]  # each (M, 4)
    homogeneous = np.linalg.svd(np.stack(rows, 1))[2][:, -1]
    return homogeneous[:, :3] / homogeneous[:, 3:]


def _between(matches: Matches, i: int, j: int) -> tuple[Array, Array, Array]:
    """Pixels in view i, pixels in view j, confidences, in either order of the pair."""
    pair = matches[min(i, j), max(i, j)]
    ends: Sequence[Array] = (pair[:, :2], pair[:, 2:4])
    return ends[i > j], ends[i < j], pair[:, 4]
