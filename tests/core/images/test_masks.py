# SPDX-License-Identifier: GPL-3.0-or-later
"""A ball on a patterned table, before black, and nothing but a wall: scenes traced here with known masks."""

from __future__ import annotations

import numpy as np
import pytest
from maquette.core.images.cut_out import guided_filter
from maquette.core.images.hull import Grid, Hull, first_grid, silhouettes, stand, vote
from maquette.core.images.masks import find_masks
from maquette.core.images.region import choose_up, find_focus, find_plane
from maquette.core.progress import Progress
from maquette.core.types import Camera, SparseCloud, View

SIDE, FOCAL = 160, 210.0
BALL, RADIUS = (
    np.array([0.02, -0.03, 0.11]),
    0.1,
)  # a little above the table z = 0: it touches nothing but its shadow
RANDOM = np.random.default_rng(0)
PATTERN = np.kron(RANDOM.uniform(0.25, 0.75, (48, 48, 3)), np.ones((4, 4, 1)))  # 192 texels on 1.6 m


def _look_at(centre: np.ndarray, target: np.ndarray, name: str) -> Camera:
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = centre
    return Camera(name, SIDE, SIDE, FOCAL, FOCAL, SIDE / 2, SIDE / 2, pose)


def _orbit(count: int) -> list[Camera]:
    cameras = []
    for i in range(count):
        turn, height = 2 * np.pi * i / count, np.radians(28 if i % 2 else 50)
        ray = np.array([np.cos(turn) * np.cos(height), np.sin(turn) * np.cos(height), np.sin(height)])
        cameras.append(_look_at(np.array([0, 0, 0.1]) + 0.75 * ray, np.array([0, 0, 0.1]), f"{i}.png"))
    return cameras


def _trace(camera: Camera, with_table: bool) -> tuple[np.ndarray, np.ndarray]:
    """Colours and coverage of the ball, from 2 x 2 rays a pixel."""
    rows, columns = np.mgrid[0 : 2 * SIDE, 0 : 2 * SIDE] / 2 + 0.25
    local = np.stack([(columns - camera.cx) / FOCAL, (rows - camera.cy) / FOCAL, np.ones_like(rows)], -1)
    rays = local @ camera.cam_to_world[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    to_ball = BALL - camera.centre
    along = rays @ to_ball
    hit = (to_ball @ to_ball - along**2 < RADIUS**2) & (along > 0)
    picture = np.zeros((*hit.shape, 3))
    if with_table:
        distance = np.where(rays[..., 2] < -1e-3, -camera.centre[2] / np.minimum(rays[..., 2], -1e-3), 1e3)
        place = camera.centre + distance[..., None] * rays
        index = np.floor((place[..., :2] + 0.8) / 1.6 * 192).astype(int)
        table = ((index >= 0) & (index < 192)).all(-1)
        picture[:] = (0.35, 0.4, 0.5)
        picture[table] = PATTERN[index[table][:, 0], index[table][:, 1]]
    surface = (
        camera.centre
        + (along - np.sqrt(np.maximum(RADIUS**2 - (to_ball @ to_ball - along**2), 0)))[..., None] * rays
    )
    shade = 0.55 + 0.45 * ((surface - BALL) / RADIUS)[..., 2]
    picture[hit] = np.array([0.95, 0.75, 0.2]) * shade[hit][:, None]
    average = picture.reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3))
    return average.astype(np.float32), hit.reshape(SIDE, 2, SIDE, 2).mean((1, 3))


def _cloud(with_table: bool) -> SparseCloud:
    table = np.c_[RANDOM.uniform(-0.8, 0.8, (600, 2)), RANDOM.normal(0, 5e-4, 600)]
    normal = RANDOM.normal(size=(150, 3))
    ball = BALL + RADIUS * normal / np.linalg.norm(normal, axis=1, keepdims=True)
    points = np.concatenate([table, ball]) if with_table else ball
    return SparseCloud(points, np.zeros((len(points), 3), np.uint8))


@pytest.mark.parametrize("with_table", [True, False])
def test_ball_on_a_table_and_before_black(with_table: bool) -> None:
    cameras = _orbit(14)
    traced = [_trace(camera, with_table) for camera in cameras]
    views = [View(camera, rgb) for camera, (rgb, _) in zip(cameras, traced, strict=True)]
    progress = Progress()
    masks, region = find_masks(views, _cloud(with_table), progress)
    overlaps = []
    for mask, (_, true) in zip(masks, traced, strict=True):
        assert mask.shape == (SIDE, SIDE) and mask.dtype == np.float32
        overlaps.append(((mask > 0.5) & (true > 0.5)).sum() / ((mask > 0.5) | (true > 0.5)).sum())
    assert np.mean(overlaps) > 0.96 and min(overlaps) > 0.93
    assert not region.whole_scene and not progress.warnings
    # The hull of two rings of cameras stands over the ball by some hundredths above and below.
    assert np.abs(region.box - [BALL - RADIUS, BALL + RADIUS]).max() < 0.035
    assert region.up[2] > 0.99
    if with_table:
        assert region.plane is not None and np.abs(region.plane - [0, 0, 1, 0]).max() < 0.01


def test_a_wall_is_no_object() -> None:
    cameras = [
        _look_at(np.array([x, -2.0, 0.3]), np.array([1.2 * x, 0, 0.3]), f"{x}.png")
        for x in (-0.4, 0, 0.4, 0.7)
    ]
    views = [View(camera, RANDOM.uniform(0, 1, (SIDE, SIDE, 3)).astype(np.float32)) for camera in cameras]
    points = RANDOM.uniform([-1, -0.4, -1], [1, 0.4, 1], (500, 3))
    progress = Progress()
    masks, region = find_masks(views, SparseCloud(points, np.zeros((500, 3), np.uint8)), progress)
    assert region.whole_scene and all(mask.min() == 1.0 for mask in masks) and len(progress.warnings) == 1
    inside = ((points > region.box[0]) & (points < region.box[1])).all(1)
    assert inside.mean() > 0.9


def test_masks_that_came_with_the_photos_are_kept() -> None:
    cameras = _orbit(10)
    traced = [_trace(camera, True) for camera in cameras]
    views = [View(c, rgb, true.astype(np.float32)) for c, (rgb, true) in zip(cameras, traced, strict=True)]
    masks, region = find_masks(views, _cloud(True), Progress())
    assert all(mask is view.mask for mask, view in zip(masks, views, strict=True))
    assert np.abs(region.box - [BALL - RADIUS, BALL + RADIUS]).max() < 0.035


def test_hull_of_true_masks_draws_them_again() -> None:
    cameras = _orbit(14)
    true = [_trace(camera, False)[1].astype(np.float32) for camera in cameras]
    focus = find_focus(cameras, _cloud(False))
    hull = vote(true, cameras, first_grid(focus, np.array([0.0, 0.0, 1.0]), None))
    assert hull is not None
    volume = hull.occupied.sum() * hull.grid.voxel**3
    assert 1.0 < volume / (4 / 3 * np.pi * RADIUS**3) < 1.35  # a hull holds its object
    for drawn, mask in zip(silhouettes(hull, cameras), true, strict=True):
        assert ((drawn > 0.5) & (mask > 0.5)).sum() / ((drawn > 0.5) | (mask > 0.5)).sum() > 0.88


def test_what_stands_reaches_the_plane_and_a_shadow_does_not_rise() -> None:
    """A column of 0.1 x 0.1 x 0.2 whose lower half tells nothing, and beside it a patch of 0.1 x 0.1 that tells nothing."""
    grid = Grid(np.array([-0.15, -0.15, 0.0]), np.eye(3), 0.01, (30, 30, 24))
    x, y, z = grid.centres().T
    column, patch = (
        (np.abs(x + 0.08) < 0.05) & (np.abs(y) < 0.05),
        (np.abs(x - 0.08) < 0.05) & (np.abs(y) < 0.05),
    )
    upper, lower, flat = column & (z > 0.1) & (z < 0.2), column & (z < 0.1), patch & (z < 0.01)
    cameras, evidence = _orbit(16), []
    for camera in cameras:
        drawn = np.full((SIDE, SIDE), -3.0, np.float32)
        for part, value in ((flat | lower, 0.5), (upper, 4.0)):
            (outline,) = silhouettes(Hull(grid, part.reshape(grid.shape)), [camera])
            drawn[outline > 0.5] = value
        evidence.append(drawn)
    loose = Hull(grid, (upper | flat).reshape(grid.shape))
    found = stand(loose, evidence, cameras).occupied.ravel()
    assert found[upper].mean() > 0.95
    assert found[lower].mean() > 0.95
    assert found[flat].mean() < 0.05
    assert found[~(upper | lower | flat)].mean() < 0.02


def test_focus_and_plane_of_a_made_scene() -> None:
    cameras = _orbit(12)
    focus = find_focus(cameras, _cloud(True))
    assert np.abs(focus.centre - [0, 0, 0.1]).max() < 1e-3 and abs(focus.distance - 0.75) < 1e-3
    assert abs(focus.radius - 0.75 * np.sin(np.arctan(SIDE / 2 / FOCAL))) < 1e-3
    plane = find_plane(cameras, _cloud(True), focus)
    assert plane is not None and np.abs(plane - [0, 0, 1, 0]).max() < 2e-3
    assert np.allclose(choose_up(focus, plane), plane[:3])
    wall = np.array([1.0, 0.0, 0.0, 2.0])  # what hangs on a wall stands as the cameras stand
    assert np.allclose(choose_up(focus, wall), focus.up)
    assert find_plane(cameras, _cloud(False), focus) is None


def test_guided_filter_keeps_an_edge_and_calms_noise() -> None:
    step = np.zeros((40, 40, 3), np.float32)
    step[:, 20:] = 0.8
    noisy = np.where(step[..., 0] > 0, 1.0, -1.0) + RANDOM.normal(0, 0.5, (40, 40))
    smooth = guided_filter(step, noisy.astype(np.float32), 3, 1e-4)
    assert ((smooth > 0) == (step[..., 0] > 0)).all()
    assert smooth[:, 3:18].std() < 0.15  # of 0.5; a plain mean over 49 would reach 0.07
