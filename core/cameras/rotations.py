# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations: quaternions, axis-angle, angles. numpy only, float64 (Blender's process reads camera files too)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def from_quaternion(quaternion: ArrayLike) -> NDArray[np.float64]:
    """(4,) w x y z, any length > 0 -> (3, 3) rotation.

    Raises:
        ValueError: a quaternion of length zero or with numbers that are not finite.
    """
    values = np.asarray(quaternion, np.float64)
    length = np.linalg.norm(values)
    if not np.isfinite(length) or length < 1e-12:
        raise ValueError(f"not a rotation: quaternion {values.tolist()}")
    w, x, y, z = values / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def to_quaternion(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation -> (4,) unit w x y z with w >= 0.

    The eigenvector of Bar-Itzhack's symmetric 4x4 matrix: no branches and stable at 180 degrees.
    """
    r = rotation
    k = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [0, r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [0, 0, r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1]],
            [0, 0, 0, r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    quaternion = np.linalg.eigh(k, UPLO="U")[1][:, -1]
    return np.asarray(quaternion if quaternion[0] >= 0 else -quaternion)


def from_axis_angle(vector: ArrayLike) -> NDArray[np.float64]:
    """(3,) axis times angle in radians -> (3, 3) (Rodrigues; series near zero, spec-pose 0.3)."""
    v = np.asarray(vector, np.float64)
    theta2 = float(v @ v)
    if theta2 < 1e-4:
        a, b = 1 - theta2 / 6 + theta2**2 / 120, 0.5 - theta2 / 24 + theta2**2 / 720
    else:
        theta = np.sqrt(theta2)
        a, b = np.sin(theta) / theta, (1 - np.cos(theta)) / theta2
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.asarray(np.eye(3) + a * cross + b * cross @ cross)


def angle_deg(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3, 3) -> (...) angle of each rotation in degrees, 0..180, accurate near 0."""
    skew = np.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        -1,
    )
    trace = np.trace(rotation, axis1=-2, axis2=-1)
    return np.asarray(np.degrees(np.arctan2(np.linalg.norm(skew, axis=-1), trace - 1)))


def nearest(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) -> the closest rotation in the Frobenius norm (SVD; determinant +1)."""
    u, _, vt = np.linalg.svd(matrix)
    return np.asarray(u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt)


def turning(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shortest rotation (3, 3) that turns direction `source` (3,) into direction `target` (3,)."""
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    axis, cosine = np.cross(a, b), float(a @ b)
    sine = np.linalg.norm(axis)
    if sine < 1e-12:
        if cosine > 0:
            return np.eye(3)
        axis = np.cross(a, np.eye(3)[np.argmin(np.abs(a))])  # any axis across it: half a turn
        return from_axis_angle(axis / np.linalg.norm(axis) * np.pi)
    return from_axis_angle(axis / sine * np.arctan2(sine, cosine))
