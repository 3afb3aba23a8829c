# SPDX-License-Identifier: GPL-3.0-or-later
"""Upright, on the floor, the right size, facing -Y: also for cameras that hang upside down or lie on their side."""

from __future__ import annotations

import numpy as np
import pytest
from maquette.core.cameras import rotations
from maquette.core.poses.frame import common_point, find_ground, orient
from maquette.core.types import Camera, SparseCloud

from .conftest import look_at

TURN = rotations.from_axis_angle([0.7, -1.1, 0.4])  # the result's frame is any frame
UP = TURN @ [0, 0, 1.0]
EMPTY = SparseCloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))


def orbit(rolls: list[float], span_deg: float = 360.0, height: float = 1.5) -> list[Camera]:
    """Cameras around the origin, 4 away, at a height; the first one stands towards +X."""
    cameras = []
    for number, roll in enumerate(rolls):
        angle = np.radians(span_deg * number / len(rolls))
        centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), height])
        pose = look_at(centre, np.array([0, 0, 0.3]), np.array([0, 0, 1.0]), roll)
        turned = np.eye(4)
        turned[:3, :3], turned[:3, 3] = TURN @ pose[:3, :3], TURN @ pose[:3, 3]
        cameras.append(Camera(f"{number}.jpg", 640, 480, 600, 600, 320, 240, turned))
    return cameras


def scene(floor: bool) -> SparseCloud:
    """A box of points on z = 0, with or without a floor around it, and some strays."""
    random = np.random.default_rng(0)
    parts = [
        random.uniform([-0.5, -0.3, 0], [0.5, 0.3, 0.8], (300, 3)),
        random.uniform(-3, 3, (20, 3)) + [0, 0, 3.5],
    ]
    if floor:
        parts.append(np.c_[random.uniform(-2, 2, (300, 2)), random.normal(0, 0.003, 300)])
    points = np.concatenate(parts) @ TURN.T
    return SparseCloud(points, np.zeros((len(points), 3), np.uint8))


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


def test_point_that_all_cameras_look_at() -> None:
    assert common_point(orbit([0] * 8)) == pytest.approx(TURN @ [0, 0, 0.3], abs=1e-3)


@pytest.mark.parametrize(
    ("rolls", "limit"),
    [
        ([0] * 12, 0.5),
        ([3, -4, 2, 5, -3, -1, 4, -5], 2.0),
        ([0, 180] * 6, 0.5),
        ([90] * 10, 0.5),
        ([0, 0, 90, 0, 270, 0], 0.5),
    ],
)
def test_up_without_a_floor(rolls: list[float], limit: float) -> None:
    assert angle_between(find_ground(orbit(rolls), EMPTY).up, UP) < limit


@pytest.mark.parametrize("rolls", [[5, -4, 8, 2, 6, -3], [0, 180] * 5, [90] * 6])
def test_floor_makes_up_exact(rolls: list[float]) -> None:
    ground = find_ground(orbit(rolls), scene(floor=True))
    assert angle_between(ground.up, UP) < 0.3
    assert ground.level == pytest.approx(0, abs=0.01)


def test_no_floor_is_invented_inside_the_object() -> None:
    assert find_ground(orbit([0] * 8), scene(floor=False)).level is None


def test_object_stands_on_zero_with_its_longest_side_one() -> None:
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.3, 0.3) for z in (0, 0.8)]) @ TURN.T
    world = orient(orbit([0] * 12), scene(floor=True), corners)
    moved = corners @ world[:3, :3].T + world[:3, 3]
    assert moved[:, 2].min() == pytest.approx(0, abs=1e-9)
    assert np.ptp(moved, axis=0).max() == pytest.approx(1, abs=1e-9)
    assert moved.mean(0)[:2] == pytest.approx([0, 0], abs=1e-6)
    taller = orient(orbit([0] * 12), scene(floor=True), corners, height=2.0)
    assert np.ptp(corners @ taller[:3, :3].T, axis=0)[2] == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("span", [360.0, 60.0])
def test_front_faces_minus_y(span: float) -> None:
    cameras = orbit([0] * 12, span)
    world = orient(cameras, EMPTY)
    sides = [world[:3, :3] @ c.centre + world[:3, 3] for c in cameras]
    front = sides[0] if span == 360 else np.mean(sides, axis=0)
    assert abs(front[0]) < 0.05 * abs(front[1]) and front[1] < 0
    assert np.linalg.det(world[:3, :3]) > 0
