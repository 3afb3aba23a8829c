# SPDX-License-Identifier: GPL-3.0-or-later
"""Points of known cameras; the ring of cameras that outlines alone give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from maquette.core.cameras import rotations
from maquette.core.poses.outline_ring import fit_ring, place_by_outline
from maquette.core.poses.sfm_process import Pair
from maquette.core.poses.sparse_model import SparseModel
from maquette.core.poses.tracks import triangulate
from maquette.core.types import Camera

from .conftest import look_at
from .test_checks import evidence


def test_points_of_known_cameras_are_found_again(ring: SparseModel) -> None:
    pairs, keypoints = evidence(ring)
    found = triangulate(ring.images, ring.poses, ring.lens_of_image, ring.lenses, pairs, keypoints)
    assert len(found.points) > 0.9 * len(np.unique(ring.point_of))
    assert np.median(np.linalg.norm(found.residuals(), axis=1)) < 1.0
    first = [
        int(found.feature_of[found.point_of == n][0]) for n in range(len(found.points))
    ]  # number of the true point
    assert np.median(np.linalg.norm(found.points - ring.points[first], axis=1)) < 0.02


def test_wrong_matches_give_few_points_of_two_pictures(ring: SparseModel) -> None:
    pairs, keypoints = evidence(ring)
    draw = np.random.default_rng(0)
    shuffled = [
        Pair(p.a, p.b, p.kind, np.stack([p.matches[:, 0], draw.permutation(p.matches[:, 1])], 1))
        for p in pairs
    ]
    found = triangulate(ring.images, ring.poses, ring.lens_of_image, ring.lenses, shuffled, keypoints)
    assert len(found.image_of) < 0.25 * len(ring.image_of)  # by chance on an epipolar line
    assert found.track_lengths().mean() < 2.2


def outlines(count: int) -> tuple[list[Camera], list[np.ndarray]]:
    """A lump of balls without symmetry from a ring 20 degrees above."""
    draw = np.random.default_rng(1)
    middles = np.array([[0, 0, 0], [0.5, 0.1, 0.3], [-0.3, 0.45, -0.2], [-0.1, -0.5, 0.35], [0.1, 0.2, -0.6]])
    radii = np.array([0.4, 0.25, 0.25, 0.2, 0.25])
    points = []
    for middle, radius in zip(middles, radii, strict=True):
        direction = draw.normal(size=(4000, 3))
        points.append(middle + radius * direction / np.linalg.norm(direction, axis=1, keepdims=True))
    cloud = np.concatenate(points)
    cameras, masks = [], []
    for n in range(count):
        angle, height = (
            2 * np.pi * n / count + draw.uniform(-0.05, 0.05),
            np.radians(20 + draw.uniform(-2, 2)),
        )
        centre = 4.5 * np.array(
            [np.cos(angle) * np.cos(height), np.sin(angle) * np.cos(height), np.sin(height)]
        )
        pose = look_at(centre, np.zeros(3), np.array([0, 0, 1.0]))
        camera = Camera(f"{n}.png", 96, 96, 150.0, 150.0, 48.0, 48.0, pose)
        mask = np.zeros((96, 96), np.float32)
        x, y = np.floor(camera.project(cloud)[0]).astype(int).T
        mask[y, x] = 1.0
        filled = mask.copy()
        for shift in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            filled = np.maximum(filled, np.roll(mask, shift, (0, 1)))
        cameras.append(camera)
        masks.append(filled)
    return cameras, masks


def turns(found: list[Camera], truth: list[Camera]) -> np.ndarray:
    """(N, N) errors of relative rotations, degrees."""
    here = np.array([c.cam_to_world[:3, :3] for c in found])
    there = np.array([c.cam_to_world[:3, :3] for c in truth])
    relative, true = np.einsum("iba,jbc->ijac", here, here), np.einsum("iba,jbc->ijac", there, there)
    return rotations.angle_deg(np.einsum("ijba,ijbc->ijac", relative, true))


def test_outline_is_placed_between_known_cameras() -> None:
    truth, masks = outlines(12)
    others = [n for n in range(12) if n != 5]
    found = place_by_outline([truth[n] for n in others], [masks[n] for n in others], masks[5])
    assert found is not None and found[1] > 0.8
    assert rotations.angle_deg(found[0].cam_to_world[:3, :3].T @ truth[5].cam_to_world[:3, :3]) < 6.0


@pytest.mark.slow
def test_ring_of_cameras_from_outlines_alone() -> None:
    truth, masks = outlines(12)
    fit = fit_ring(masks, [camera.name for camera in truth])
    assert fit.iou > 0.9 and np.median(turns(fit.cameras, truth)) < 6.0
    assert replace(fit.cameras[0], name="") != truth[0]
