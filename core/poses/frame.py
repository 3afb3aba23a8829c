# SPDX-License-Identifier: GPL-3.0-or-later
"""Orientation of a result: which way is up, where the floor is, where the front is, and how big the object is."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cameras import rotations
from ..types import Camera, SparseCloud

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ground:
    """Up and, where there is one, the floor."""

    up: Floats
    """(3,) unit, result's frame."""
    level: float | None
    """The floor is where up . x = level; None where no floor was seen."""


def orient(
    cameras: list[Camera],
    cloud: SparseCloud,
    object_points: Floats | None = None,
    height: float = 0.0,
    ground: Ground | None = None,
) -> Floats:
    """The similarity that stands the object upright on z = 0, front towards -Y (docs/CONVENTIONS.md).

    Args:
        cameras: solved cameras, result's frame.
        cloud: sparse points, same frame; may be empty.
        object_points: (N, 3) points of the object (mesh vertices, or the corners of its box), same frame; None: what the
            cameras look at in common.
        height: of the object in metres; 0: its longest side becomes 1 metre.
        ground: where it is known already, else found by `find_ground`.

    Returns:
        world_from_result, (4, 4) float64.
    """
    ground = ground or find_ground(cameras, cloud, object_points)
    middle = common_point(cameras)
    if object_points is None:
        object_points = _looked_at(cameras, cloud, middle)
        low = ground.level
    else:
        middle = 0.5 * (object_points.min(0) + object_points.max(0))
        low = None
    rotation = _upright(cameras, ground.up, middle)
    turned = object_points @ rotation.T
    lowest, highest = turned.min(0), turned.max(0)
    # A real object stands on the lowest of its own points; without one, on the floor if the photos show it.
    base = float(lowest[2]) if low is None else low
    size = max(float(highest[2]) - base, 1e-9) if height > 0 else max(float((highest - lowest).max()), 1e-9)
    scale = (height if height > 0 else 1.0) / size
    centre = 0.5 * (lowest + highest)
    out = np.eye(4)
    out[:3, :3] = scale * rotation
    out[:3, 3] = -scale * np.array([centre[0], centre[1], base])
    return out


def find_ground(cameras: list[Camera], cloud: SparseCloud, object_points: Floats | None = None) -> Ground:
    """Up from the cameras, made exact by the floor plane where the sparse points show one."""
    hint, sign_known = _up_of_cameras(cameras)
    floor = _floor(cameras, cloud, hint, sign_known)
    if floor is not None:
        return floor
    if not sign_known:
        # Cameras look down on things more often than up at them.
        forward = np.mean([camera.cam_to_world[:3, 2] for camera in cameras], axis=0)
        hint = -hint if forward @ hint > 0 else hint
    log.info("no floor among the sparse points; up follows the cameras")
    return Ground(hint, None)


def common_point(cameras: list[Camera]) -> Floats:
    """(3,) the point nearest to all optical axes (least squares), in front of the cameras.

    For parallel axes it is held by the centres: it then lies about one spread of the cameras in front of them.
    """
    centres = np.array([camera.centre for camera in cameras])
    axes = np.array([camera.cam_to_world[:3, 2] for camera in cameras])
    spread = max(float(np.linalg.norm(centres - centres.mean(0), axis=1).mean()), 1e-6)
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    pull = 1e-4 * len(cameras)
    start = (centres + spread * axes).mean(0)
    normal = across.sum(0) + pull * np.eye(3)
    return np.linalg.solve(normal, np.einsum("nij,nj->i", across, centres) + pull * start)


def _up_of_cameras(cameras: list[Camera]) -> tuple[Floats, bool]:
    """Up without regard to tilt, and whether its sign is known.

    People hold cameras level: the picture's x axis is horizontal (also when it hangs upside down), or its y axis where a
    picture was taken on its side. Up is the direction most nearly across all those axes (Szeliski, "Computer Vision", 2nd
    ed., section 8.2.2), found by assigning axes and directions in turn.
    """
    right = np.array([camera.cam_to_world[:3, 0] for camera in cameras])
    up = -np.array([camera.cam_to_world[:3, 1] for camera in cameras])
    starts = [up.mean(0), right.mean(0), _across(right), _across(up), _thin_direction(cameras)]
    found: list[tuple[float, Floats]] = []
    for start in starts:
        length = np.linalg.norm(start)
        if length < 1e-6:
            continue
        direction = start / length
        for _ in range(10):
            level = np.where((np.abs(right @ direction) <= np.abs(up @ direction))[:, None], right, up)
            direction = _across(level, direction)
        tilt = np.minimum(np.abs(right @ direction), np.abs(up @ direction))
        # A camera's up is seldom across the world's up (that is a camera looking straight down).
        agreement = np.maximum(np.abs(up @ direction), np.abs(right @ direction))
        found.append((float(np.median(tilt)) - 0.3 * float(np.median(agreement)), direction))
    _, best = min(found, key=lambda item: item[0])
    votes = np.where(np.abs(up @ best) > np.abs(right @ best), up @ best, 0.0)
    balance = float(votes.sum() / max(np.abs(votes).sum(), 1e-9))
    return (best if balance >= 0 else -best), abs(balance) > 0.5 and float((votes != 0).mean()) > 0.5


def _across(directions: Floats, start: Floats | None = None) -> Floats:
    """(3,) unit direction most nearly perpendicular to all (N, 3); held near `start` where they do not fix it."""
    spread = directions.T @ directions / len(directions)
    if start is not None:
        spread = spread + 1e-3 * (np.eye(3) - np.outer(start, start))
    direction = np.linalg.eigh(spread)[1][:, 0]
    return np.asarray(direction if start is None or direction @ start >= 0 else -direction)


def _thin_direction(cameras: list[Camera]) -> Floats:
    """(3,) normal of the plane that the camera centres lie in most nearly."""
    centres = np.array([camera.centre for camera in cameras])
    return (
        np.asarray(np.linalg.eigh(np.cov((centres - centres.mean(0)).T))[1][:, 0])
        if len(cameras) > 2
        else np.zeros(3)
    )


def _floor(cameras: list[Camera], cloud: SparseCloud, hint: Floats, sign_known: bool) -> Ground | None:
    """The largest plane below the cameras whose normal lies within 25 degrees of the hint, if it is low and large."""
    points = cloud.points
    if len(points) < 60:
        return None
    centres = np.array([camera.centre for camera in cameras])
    distance = float(np.median(np.linalg.norm(centres - common_point(cameras), axis=1)))
    near = np.linalg.norm(points - common_point(cameras), axis=1) < 1.5 * distance
    points = points[near]
    if len(points) < 60:
        return None
    thickness = 0.006 * distance
    random = np.random.default_rng(0)
    triples = points[random.integers(0, len(points), (3000, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    length = np.linalg.norm(normals, axis=1)
    usable = length > (0.02 * distance) ** 2
    normals, triples = normals[usable] / length[usable, None], triples[usable]
    cosine = normals @ hint
    if sign_known:
        normals = normals * np.sign(cosine)[:, None]
    steep = np.abs(cosine) > np.cos(np.radians(25.0))
    normals, offsets = normals[steep], (normals[steep] * triples[steep, 0]).sum(1)
    best: tuple[float, Ground] | None = None
    for normal, offset in zip(normals, offsets, strict=True):
        for sign in (1.0,) if sign_known else (1.0, -1.0):
            rise = sign * (points @ normal - offset)
            inliers = np.abs(rise) < thickness
            below = float((rise < -3 * thickness).mean())
            cameras_above = float((sign * (centres @ normal - offset) > 0).mean())
            score = float(inliers.mean()) - 3.0 * below - (1.0 - cameras_above)
            if best is None or score > best[0]:
                best = score, Ground(sign * normal, sign * offset)
    if best is None or best[0] < 0.05:
        return None
    ground = _refined(points, best[1], thickness, hint if sign_known else best[1].up)
    assert ground.level is not None
    rise = points @ ground.up - ground.level
    # Points of the object fill the space above its base evenly; a floor is a dense layer.
    above = int(((rise > 2 * thickness) & (rise < 6 * thickness)).sum())
    return ground if int((np.abs(rise) < thickness).sum()) > 2.0 * above else None


def _refined(points: Floats, ground: Ground, thickness: float, side: Floats) -> Ground:
    """Least squares through the plane's points."""
    assert ground.level is not None
    for _ in range(5):
        inside = points[np.abs(points @ ground.up - ground.level) < thickness]
        middle = inside.mean(0)
        normal = np.linalg.eigh(np.cov((inside - middle).T))[1][:, 0]
        normal = normal if normal @ side > 0 else -normal
        ground = Ground(normal, float(normal @ middle))
    return ground


def _upright(cameras: list[Camera], up: Floats, middle: Floats) -> Floats:
    """Rotation (3, 3) that sends up to +Z and the side the photos look from to -Y."""
    rotation = rotations.turning(up, np.array([0.0, 0.0, 1.0]))
    sides = np.array([camera.centre - middle for camera in cameras]) @ rotation.T
    sides[:, 2] = 0
    sides /= np.maximum(np.linalg.norm(sides, axis=1, keepdims=True), 1e-9)
    mean = sides.mean(0)
    front = mean if np.linalg.norm(mean) > 0.5 else sides[0]  # all round: the first photo shows the front
    if np.linalg.norm(front) < 1e-6:  # it looks straight down: its lower edge is the front
        front = rotation @ cameras[0].cam_to_world[:3, 1]
    yaw = -np.pi / 2 - np.arctan2(front[1], front[0])
    return rotations.from_axis_angle([0.0, 0.0, yaw]) @ rotation


def _looked_at(cameras: list[Camera], cloud: SparseCloud, middle: Floats) -> Floats:
    """Two corners of a box around the sparse points near the common point, or around that point itself."""
    distance = float(np.median([np.linalg.norm(camera.centre - middle) for camera in cameras]))
    if len(cloud.points):
        near = cloud.points[np.linalg.norm(cloud.points - middle, axis=1) < 0.5 * distance]
        if len(near) >= 20:
            return np.asarray(np.percentile(near, [2, 98], axis=0))
    return middle + np.array([[-0.25], [0.25]]) * distance
