# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations, distortion, resizing, turning and aligning cameras: closed forms and round trips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from maquette.core.cameras import conventions, distortion, rotations
from maquette.core.types import Camera


def make_camera(seed: int = 0, name: str = "a.jpg") -> Camera:
    """A landscape camera with odd numbers everywhere, looking at the origin from about 3 away."""
    random = np.random.default_rng(seed)
    centre = random.normal(size=3)
    centre *= 3 / np.linalg.norm(centre)
    forward = -centre / 3
    right = np.cross(forward, random.normal(size=3))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = centre
    return Camera(name, 640, 480, 500.0, 510.0, 310.0, 250.0, pose, (0.05, -0.08, 0.001, -0.002))


def project(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Pixels with distortion."""
    local = points @ camera.world_to_cam[:3, :3].T + camera.world_to_cam[:3, 3]
    rays = distortion.distort(local[:, :2] / local[:, 2:], camera.distortion)
    return rays * [camera.fx, camera.fy] + [camera.cx, camera.cy]


def test_quaternion_round_trip_also_at_half_turns() -> None:
    random = np.random.default_rng(1)
    for vector in [
        *random.normal(size=(50, 3)),
        np.array([np.pi, 0, 0]),
        np.array([0, 0, np.pi]),
        np.zeros(3),
    ]:
        rotation = rotations.from_axis_angle(vector)
        again = rotations.from_quaternion(rotations.to_quaternion(rotation))
        assert np.abs(again - rotation).max() < 1e-12


def test_axis_angle_quarter_turn_about_z() -> None:
    assert rotations.from_axis_angle([0, 0, np.pi / 2]) @ [1, 0, 0] == pytest.approx([0, 1, 0], abs=1e-12)


def test_angle_is_exact_near_zero_and_near_180() -> None:
    for degrees in (1e-6, 0.5, 90.0, 179.999):
        rotation = rotations.from_axis_angle(np.radians(degrees) * np.array([0.6, 0.8, 0.0]))
        assert rotations.angle_deg(rotation) == pytest.approx(degrees, rel=1e-6)


def test_turning_handles_opposite_directions() -> None:
    for target in ([0, 0, 1], [0, 0, -1], [1, 2, 3]):
        target = np.array(target, float)
        turned = rotations.turning(np.array([0, 0, 2.0]), target) @ [0, 0, 1]
        assert turned == pytest.approx(target / np.linalg.norm(target), abs=1e-12)


def test_undistort_inverts_distort() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-0.7, 0.7, 15), np.linspace(-0.5, 0.5, 11)), -1).reshape(-1, 2)
    for lens in ((0.0578, -0.0805, -0.00098, 0.000156), (-0.2, 0.05, 0.001, 0.002)):
        assert np.abs(distortion.undistort(distortion.distort(grid, lens), lens) - grid).max() < 1e-10


def test_barrel_distortion_by_hand() -> None:
    # r2 = 0.25, factor 1 - 0.2 * 0.25 = 0.95
    assert distortion.distort(np.array([[0.5, 0.0]]), (-0.2, 0, 0, 0))[0] == pytest.approx([0.475, 0.0])


def test_smaller_picture_scales_the_intrinsics() -> None:
    camera = conventions.for_picture(make_camera(), 1280, 960)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (1000.0, 1020.0, 620.0, 500.0)


def test_other_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="640 x 480"):
        conventions.for_picture(make_camera(), 1280, 720)


def test_rounded_thumbnail_is_accepted() -> None:
    thumbnail = replace(make_camera(), width=101, height=76)  # 4032 x 3024 scaled by 1/40 and rounded up
    assert conventions.for_picture(thumbnail, 4032, 3024).width == 4032


@pytest.mark.parametrize("clockwise", [True, False])
def test_quarter_turn_moves_every_pixel_where_the_picture_goes(clockwise: bool) -> None:
    camera = make_camera(3)
    points = np.random.default_rng(0).normal(size=(40, 3)) * 0.3
    u, v = project(camera, points).T
    turned = conventions.turn_quarter(camera, clockwise)
    expected = np.stack([camera.height - v, u] if clockwise else [v, camera.width - u], 1)
    assert np.abs(project(turned, points) - expected).max() < 1e-9
    assert np.linalg.det(turned.cam_to_world[:3, :3]) == pytest.approx(1)


def test_exif_turn_is_found_from_the_size() -> None:
    turned = conventions.for_picture(make_camera(), 960, 1280, exif_orientation=6)
    assert (turned.width, turned.height, turned.cx) == (960, 1280, 2 * (480 - 250.0))


def test_similarity_is_recovered() -> None:
    random = np.random.default_rng(2)
    truth = np.eye(4)
    truth[:3, :3] = 2.5 * rotations.from_axis_angle([0.3, -1.0, 2.0])
    truth[:3, 3] = [1, 2, 3]
    points = random.normal(size=(10, 3))
    assert (
        np.abs(conventions.fit_similarity(points, points @ truth[:3, :3].T + truth[:3, 3]) - truth).max()
        < 1e-12
    )


def test_aligning_cameras_ignores_a_wrong_one_and_survives_a_straight_path() -> None:
    similarity = np.eye(4)
    similarity[:3, :3] = 0.5 * rotations.from_axis_angle([1.0, 0.2, -0.4])
    similarity[:3, 3] = [4, 5, 6]
    source = []
    for step in range(7):
        camera = make_camera(step)
        camera.cam_to_world[:3, 3] = [step, 2 * step, 0]  # all centres on a line
        source.append(camera)
    target = [conventions.move_camera(c, similarity) for c in source]
    target[3] = replace(
        target[3], cam_to_world=conventions.move_camera(make_camera(99), similarity).cam_to_world
    )
    found = conventions.align_cameras(source, target)
    assert np.abs(found - similarity).max() < 0.02


def test_moving_a_camera_keeps_its_picture() -> None:
    similarity = np.eye(4)
    similarity[:3, :3] = 3 * rotations.from_axis_angle([0.1, 0.2, 0.3])
    similarity[:3, 3] = [1, -2, 5]
    camera, points = make_camera(), np.random.default_rng(0).normal(size=(20, 3)) * 0.3
    moved = conventions.move_camera(camera, similarity)
    pixels = moved.project(points @ similarity[:3, :3].T + similarity[:3, 3])[0]
    assert np.abs(pixels - camera.project(points)[0]).max() < 1e-9
