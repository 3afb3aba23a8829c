# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundle adjustment: derivatives against differences, recovery of a made scene, priors that hold what data leave open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from maquette.core.cameras import rotations
from maquette.core.poses import bundle_adjustment as ba
from maquette.core.poses.grading import disagreement
from maquette.core.poses.sparse_model import SparseModel

SIZES = np.array([[640, 480]])


def disturbed(model: SparseModel, noise_px: float = 0.3) -> SparseModel:
    """Poses off by half a degree, points by a hundredth, a mapper's simpler lens, noisy pixels."""
    random = np.random.default_rng(1)
    poses = model.poses.copy()
    for number in range(len(poses)):
        poses[number] = rotations.from_axis_angle(random.normal(size=3) * 0.005) @ poses[number]
        poses[number, :, 3] += random.normal(size=3) * 0.02
    return replace(
        model,
        poses=poses,
        lenses=np.array([[615.0, 615.0, 320.0, 240.0, 0.0, 0.0, 0.0, 0.0]]),
        points=model.points + random.normal(size=model.points.shape) * 0.01,
        pixels=model.pixels + random.normal(size=model.pixels.shape) * noise_px,
    )


def adjust(model: SparseModel, **options) -> ba.Adjusted:
    return ba.adjust(model, SIZES, np.array([768.0]), np.array([False]), **options)


def test_jacobians_equal_differences(ring: SparseModel) -> None:
    model = disturbed(ring)
    _, by_pose, by_lens, by_point = ba._linearise(model)
    step = 1e-6

    def difference(changed: SparseModel) -> np.ndarray:
        return (changed.residuals() - model.residuals()) / step

    image = model.image_of == 3
    for axis in range(3):
        turn = rotations.from_axis_angle(step * np.eye(3)[axis])
        poses = model.poses.copy()
        poses[3] = turn @ poses[3]
        assert np.abs(difference(replace(model, poses=poses))[image] - by_pose[image, :, axis]).max() < 0.01
        poses = model.poses.copy()
        poses[3, axis, 3] += step
        assert (
            np.abs(difference(replace(model, poses=poses))[image] - by_pose[image, :, 3 + axis]).max() < 0.01
        )
        points = model.points + step * np.eye(3)[axis]
        assert np.abs(difference(replace(model, points=points)) - by_point[:, :, axis]).max() < 0.01
    for number in range(8):
        lenses = model.lenses.copy()
        lenses[0, number] += step
        assert np.abs(difference(replace(model, lenses=lenses)) - by_lens[:, :, number]).max() < 0.01


def test_made_scene_is_recovered_with_its_lens(ring: SparseModel) -> None:
    found = adjust(disturbed(ring))
    # The centre is the weakest number: 2 px of it are 0.2 degrees of each rotation here.
    assert np.median(disagreement(found.model, ring)) < 0.4
    assert found.model.lenses[0, :2] == pytest.approx([600, 600], rel=0.003)
    assert found.model.lenses[0, 2:4] == pytest.approx([331, 236], abs=3)
    # 2 x 2600 numbers less 1280 unknowns: 0.3 px appear as 0.26
    assert found.sigma_px == pytest.approx(0.26, rel=0.15)


def test_exact_observations_give_exact_cameras(ring: SparseModel) -> None:
    exact = replace(disturbed(ring, 0.0), lenses=ring.lenses)
    found = adjust(exact, prior=ba.LensPrior(centre=1, aspect=1, k1=10, k2=10, tangential=10), iterations=30)
    assert np.median(disagreement(found.model, ring)) < 1e-3


def test_outliers_are_thrown_out(ring: SparseModel) -> None:
    model = disturbed(ring)
    pixels = model.pixels.copy()
    wrong = np.random.default_rng(2).choice(len(pixels), 100, replace=False)
    pixels[wrong] += 25.0
    found = adjust(replace(model, pixels=pixels))
    assert len(found.model.pixels) <= len(pixels) - 98
    assert np.median(disagreement(found.model, ring)) < 0.4


def test_long_tracks_alone_give_the_same_cameras(ring: SparseModel) -> None:
    some = adjust(disturbed(ring), max_observations=1200)
    assert len(some.model.points) > 350  # the others are triangulated again
    assert np.median(disagreement(some.model, ring)) < 0.5


def test_prior_holds_a_lens_that_two_images_cannot_know(ring: SparseModel) -> None:
    two = disturbed(ring, 0.5).without(set(range(2, 12)))
    loose = ba.LensPrior(centre=10, aspect=10, k1=10, k2=10, tangential=10)
    held, free = adjust(two).model.lenses[0], adjust(two, prior=loose).model.lenses[0]
    assert abs(held[0] / held[1] - 1) < 0.01 and np.abs(held[2:4] - [320, 240]).max() < 40
    assert np.abs(free[4:6] - ring.lenses[0, 4:6]).max() > np.abs(held[4:6] - ring.lenses[0, 4:6]).max()


def test_uncertainty_is_that_of_repeated_trials(ring: SparseModel) -> None:
    random = np.random.default_rng(5)
    centres, reported = [], []
    for _ in range(8):
        noisy = replace(ring, pixels=ring.pixels + random.normal(size=ring.pixels.shape) * 0.3)
        found = adjust(noisy, iterations=4)
        centres.append(found.model.lenses[0, 2])
        reported.append(found.lens[0, 2])
    assert 0.5 < np.median(reported) / (ba.SYSTEMATIC * np.std(centres)) < 2.0


def test_moving_the_world_costs_nothing_and_is_no_uncertainty(ring: SparseModel) -> None:
    focal, known = ring.lenses[:, 0], np.array([True])
    target, sigma = ba._prior(SIZES, focal, known, ba.LensPrior())
    normal = ba._normal_equations(ring, target, sigma, 0.5, 0.0)
    gauge = ba._gauge(ring)
    moved = np.linalg.norm(normal.schur @ gauge, axis=0) / np.linalg.norm(gauge, axis=0)
    assert moved.max() < 1e-6 * np.abs(normal.schur).max()
    near = ba.adjust(disturbed(ring), SIZES, focal, known).rotation_deg
    large = replace(ring, points=100 * ring.points, poses=ring.poses * np.array([1, 1, 1, 100.0]))
    large = replace(large, pixels=disturbed(ring).pixels)
    far = ba.adjust(large, SIZES, focal, known).rotation_deg
    assert near.max() < 0.8 and np.allclose(far, near, rtol=0.1)
