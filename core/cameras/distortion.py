# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenCV's k1 k2 p1 p2 lens distortion, both ways, on normalised image coordinates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Distortion = tuple[float, float, float, float]


def distort(rays: NDArray[np.float64], distortion: Distortion) -> NDArray[np.float64]:
    """(N, 2) x/z, y/z of ideal rays -> (N, 2) where the lens puts them (OpenCV manual, calib3d, radial and tangential)."""
    k1, k2, p1, p2 = distortion
    x, y = rays[:, 0], rays[:, 1]
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        1,
    )


def undistort(points: NDArray[np.float64], distortion: Distortion) -> NDArray[np.float64]:
    """Inverse of `distort`: (N, 2) -> (N, 2), by Newton with a numerical Jacobian (10 steps, error < 1e-10 inside the
    range where the lens model is one-to-one).
    """
    if not any(distortion):
        return np.array(points, np.float64)
    rays = np.array(points, np.float64)
    step = 1e-6
    for _ in range(10):
        miss = distort(rays, distortion) - points
        if np.abs(miss).max(initial=0.0) < 1e-12:
            break
        dx = (distort(rays + [step, 0], distortion) - distort(rays - [step, 0], distortion)) / (2 * step)
        dy = (distort(rays + [0, step], distortion) - distort(rays - [0, step], distortion)) / (2 * step)
        determinant = dx[:, 0] * dy[:, 1] - dy[:, 0] * dx[:, 1]
        determinant = np.where(np.abs(determinant) < 1e-3, 1e-3, determinant)  # beyond the fold: stay finite
        rays[:, 0] -= (dy[:, 1] * miss[:, 0] - dy[:, 0] * miss[:, 1]) / determinant
        rays[:, 1] -= (dx[:, 0] * miss[:, 1] - dx[:, 1] * miss[:, 0]) / determinant
    return rays
