# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the object is: what all photos look at, what it stands on (or hangs on), and how large it may be.

Only cameras and the sparse cloud are used, no pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Camera, SparseCloud

PLANE_TOLERANCE = 0.006
"""Distance from a plane that still is on it, over the cameras' distance (our choice: some pixels)."""


@dataclass(frozen=True)
class ObjectRegion:
    """Where the object lies, in the result's frame."""

    box: NDArray[np.float64]
    """(2, 3) lowest and highest corner."""
    up: NDArray[np.float64]
    """(3,) unit."""
    plane: NDArray[np.float64] | None
    """(4,) n, d with n . x + d the signed distance (cameras on the positive side) of the table, floor or wall that
    carries the object; None where there is none."""
    whole_scene: bool = False
    """True where no object could be told from its surroundings: the masks are 1 everywhere."""


@dataclass(frozen=True)
class Focus:
    """What the cameras look at."""

    centre: NDArray[np.float64]
    """(3,) the point nearest to all optical axes."""
    distance: float
    """Median distance of the cameras from it."""
    radius: float
    """Radius of the largest ball around `centre` that the median picture shows whole."""
    up: NDArray[np.float64]
    """(3,) unit, from the cameras alone."""
    miss: float
    """Median distance of the axes from the centre over `distance`: small where they really meet."""


def find_focus(cameras: list[Camera], cloud: SparseCloud) -> Focus:
    """Meeting point of the optical axes by least squares, with outlying axes weighted down.

    Where the axes are almost parallel the meeting point is undefined along them; the median of the cloud decides then.
    """
    centres = np.array([camera.centre for camera in cameras])
    axes = np.array([camera.cam_to_world[:3, 2] for camera in cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]  # (N, 3, 3) projector off each axis
    weights = np.ones(len(cameras))
    # A weak pull towards the cloud fixes what the axes leave open and moves nothing where they meet at an angle.
    anchor = np.median(cloud.points, 0) if len(cloud.points) else (centres + axes).mean(0)
    for _ in range(10):
        matrix = np.einsum("n,nij->ij", weights, across) + 1e-3 * weights.sum() * np.eye(3)
        target = np.einsum("n,nij,nj->i", weights, across, centres) + 1e-3 * weights.sum() * anchor
        centre = np.linalg.solve(matrix, target)
        miss = np.linalg.norm(np.einsum("nij,nj->ni", across, centre - centres), axis=1)
        weights = 1.0 / np.maximum(miss, 0.3 * np.median(miss) + 1e-9)
    distance = float(np.median(np.linalg.norm(centres - centre, axis=1)))
    half_angle = [np.arctan(min(c.width / 2 / c.fx, c.height / 2 / c.fy)) for c in cameras]
    radius = distance * float(np.sin(np.median(half_angle)))
    return Focus(centre, distance, radius, _mean_up(cameras, centres), float(np.median(miss)) / distance)


def _mean_up(cameras: list[Camera], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the pictures' upward directions; where pictures are turned, the axis of the ring of cameras."""
    ups = np.array([-camera.cam_to_world[:3, 1] for camera in cameras])
    mean = ups.mean(0)
    length = float(np.linalg.norm(mean))
    if length > 0.3 or len(cameras) < 3:
        return np.asarray(mean / max(length, 1e-9))
    axis = np.linalg.svd(centres - centres.mean(0))[2][2]
    return np.asarray(axis * (np.sign(axis @ mean) or 1.0))


def find_plane(
    cameras: list[Camera], cloud: SparseCloud, focus: Focus, seed: int = 0
) -> NDArray[np.float64] | None:
    """The plane that carries the object, by RANSAC on the points around the focus.

    It must have (nearly) all cameras on one side and almost no points on the other: the top of a box has the box and
    the table below it, the table has nothing.

    Returns:
        (4,) n, d with the cameras on the positive side; None where no plane has support.
    """
    away = np.linalg.norm(cloud.points - focus.centre, axis=1)
    points = cloud.points[away < 2.0 * focus.radius]
    if len(points) < 60:
        return None
    centres = np.array([camera.centre for camera in cameras])
    tolerance = PLANE_TOLERANCE * focus.distance
    random = np.random.default_rng(seed)
    best: tuple[int, NDArray[np.float64]] | None = None
    triples = random.integers(0, len(points), (800, 3))
    for triple in triples:
        a, b, c = points[triple]
        normal = np.cross(b - a, c - a)
        length = float(np.linalg.norm(normal))
        if length < 1e-4 * focus.radius**2:
            continue
        plane = np.append(normal / length, -(normal / length) @ a)
        plane *= np.sign(np.median(centres @ plane[:3] + plane[3])) or 1.0
        support = _support(plane, points, centres, tolerance)
        if support is not None and (best is None or support.sum() > best[0]):
            best = int(support.sum()), plane
    if best is None or best[0] < max(40, 0.1 * len(points)):
        return None
    plane = best[1]
    for _ in range(4):
        inliers = points[np.abs(points @ plane[:3] + plane[3]) < tolerance]
        middle = inliers.mean(0)
        normal = np.linalg.svd(inliers - middle, full_matrices=False)[2][2]
        normal *= np.sign(normal @ plane[:3]) or 1.0
        plane = np.append(normal, -normal @ middle)
    return plane


def _support(
    plane: NDArray[np.float64], points: NDArray[np.float64], centres: NDArray[np.float64], tolerance: float
) -> NDArray[np.bool_] | None:
    """Inliers of a candidate, None where cameras or points forbid it."""
    heights = points @ plane[:3] + plane[3]
    if np.mean(centres @ plane[:3] + plane[3] > 5 * tolerance) < 0.9:
        return None
    support = np.abs(heights) < tolerance
    below = int((heights < -3 * tolerance).sum())
    return None if below > 0.1 * support.sum() else support


def choose_up(focus: Focus, plane: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """The plane's normal where it is a table or floor (within 50 degrees of the cameras' up), else the cameras' up."""
    if plane is not None and plane[:3] @ focus.up > np.cos(np.radians(50.0)):
        return plane[:3]
    return focus.up


def plane_points(cloud: SparseCloud, plane: NDArray[np.float64], focus: Focus) -> NDArray[np.float64]:
    """(P, 3) points of the cloud on the plane, not farther from the focus than three radii."""
    on_plane = np.abs(cloud.points @ plane[:3] + plane[3]) < PLANE_TOLERANCE * focus.distance
    near = np.linalg.norm(cloud.points - focus.centre, axis=1) < 3.0 * focus.radius
    return np.asarray(cloud.points[on_plane & near])


def scene_box(cloud: SparseCloud, focus: Focus) -> NDArray[np.float64]:
    """(2, 3) box of what the cloud shows, outlying points left out; the ball of the focus without enough points."""
    if len(cloud.points) < 20:
        return np.stack([focus.centre - focus.radius, focus.centre + focus.radius])
    low, high = np.percentile(cloud.points, [2.0, 98.0], axis=0)
    return np.stack([low - 0.05 * (high - low), high + 0.05 * (high - low)])
