# SPDX-License-Identifier: GPL-3.0-or-later
"""The candidate sphere's geometry, the free camera, and their gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from maquette.core.cameras.rotations import from_axis_angle
from maquette.core.poses.diffusion.cameras import (
    CandidateSphere,
    Poses,
    SingleCamera,
    looking_at_origin,
    mean_rotation,
    rotation_of,
)


def test_cameras_look_at_the_origin_upright() -> None:
    poses = looking_at_origin(torch.tensor([0.0, 1.0, 4.0]), torch.tensor([0.0, 0.6, 1.5]), 4.0)
    assert torch.allclose(poses.centre[0], torch.tensor([4.0, 0.0, 0.0]))
    # From +x at the horizon: forward -x, right +y, down -z.
    expected = torch.tensor([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
    assert torch.allclose(poses.rotation[0], expected, atol=1e-6)
    assert torch.allclose(poses.centre + 4 * poses.rotation[..., 2], torch.zeros(3, 3), atol=1e-5)
    assert (poses.rotation[:, 2, 0].abs() < 1e-6).all()  # the picture's x axis is level
    assert torch.allclose(torch.linalg.det(poses.rotation), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("count", [4, 8, 12, 18, 24])
def test_candidates_reach_every_direction_above_the_ground(count: int) -> None:
    sphere = CandidateSphere(count, 4.0)
    azimuth, height = torch.meshgrid(torch.linspace(0, 6.28, 61), torch.linspace(0.0, 1.5, 16), indexing="ij")
    wanted = looking_at_origin(azimuth.flatten(), height.flatten(), 4.0)
    best = sphere.nearest(wanted.centre)
    # The numbers that would place that candidate there exist: |tanh| < 1.
    away = (azimuth.flatten() - sphere.azimuth[best] + math.pi).remainder(2 * math.pi) - math.pi
    rise = height.flatten() - sphere.elevation[best]
    assert (away.abs() / sphere.reach_azimuth).max() < 0.999
    assert (rise.abs() / sphere.reach_elevation).max() < 0.999
    raw = torch.zeros(len(best), count, 7)
    rows = torch.arange(len(best))
    raw[rows, best, 0] = torch.atanh(away / sphere.reach_azimuth)
    raw[rows, best, 1] = torch.atanh(rise / sphere.reach_elevation)
    poses, log_p = sphere.poses(raw.flatten(1))
    assert torch.allclose(poses.rotation[rows, best], wanted.rotation, atol=1e-4)
    assert torch.allclose(poses.centre[rows, best], wanted.centre, atol=1e-3)
    assert torch.allclose(log_p.exp(), torch.full_like(log_p, 1 / count))


def test_candidates_stay_in_the_shell() -> None:
    raw = 5 * torch.randn(50, 7 * 12, generator=torch.Generator().manual_seed(0))
    poses, _ = CandidateSphere(12, 4.0).poses(raw)
    distance = poses.centre.norm(dim=-1)
    assert distance.min() >= 4 * math.exp(-0.25) - 1e-4
    assert distance.max() <= 4 * math.exp(0.25) + 1e-4


def test_rotations_agree_with_the_exact_ones() -> None:
    for vector in ([0.0, 0.0, 0.0], [1e-4, -2e-4, 1e-5], [0.3, -0.2, 0.5], [2.0, 1.0, -1.0]):
        found = rotation_of(torch.tensor(vector, dtype=torch.float64)).numpy()
        assert np.abs(found - from_axis_angle(vector)).max() < 1e-9


def test_mean_of_rotations() -> None:
    # Turns of -10, 0 and 40 degrees about one axis; the matrix mean's angle is atan2(sum sin, sum cos).
    angles = torch.deg2rad(torch.tensor([-10.0, 0.0, 40.0]))
    turns = rotation_of(torch.stack([torch.zeros(3), torch.zeros(3), angles], 1))
    mean = math.atan2(float(angles.sin().sum()), float(angles.cos().sum()))
    assert torch.allclose(mean_rotation(turns), rotation_of(torch.tensor([0.0, 0.0, mean])), atol=1e-5)


@pytest.mark.parametrize("mode", [SingleCamera(1.8), CandidateSphere(4, 4.0)])
def test_gradients(mode: SingleCamera | CandidateSphere) -> None:
    """Poses against finite differences, 1e-3 relative (spec A.14, test 1)."""
    raw = 0.3 * torch.randn(1, mode.outputs, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def numbers(values: torch.Tensor) -> torch.Tensor:
        poses, log_p = mode.poses(values)
        return torch.cat([poses.rotation.flatten(), poses.centre.flatten(), log_p.flatten()])

    assert torch.autograd.gradcheck(numbers, raw.requires_grad_(), rtol=1e-3, atol=1e-6)


def test_gradient_at_the_identity_is_finite() -> None:
    raw = torch.zeros(1, 6, requires_grad=True)
    poses, _ = SingleCamera(1.8).poses(raw)
    (poses.rotation * torch.randn(3, 3, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert raw.grad is not None and torch.isfinite(raw.grad).all() and raw.grad[0, :3].abs().max() > 0.1


def test_moves_go_around_the_origin_and_along_the_cameras_axes() -> None:
    poses = looking_at_origin(torch.tensor([0.7]), torch.tensor([0.4]), 4.0)
    around = poses.moved(torch.tensor([[0.0, 0.0, 0.2, 0.0, 0.0, 0.0]]), torch.zeros(3))
    wanted = looking_at_origin(torch.tensor([0.9]), torch.tensor([0.4]), 4.0)
    assert torch.allclose(around.rotation, wanted.rotation, atol=1e-6)
    assert torch.allclose(around.centre, wanted.centre, atol=1e-5)
    assert math.isclose(float(Poses.angle_to(poses, around)), 0.2, abs_tol=1e-4)
    nearer = poses.moved(torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]), torch.zeros(3))
    assert torch.allclose(nearer.centre, 0.75 * poses.centre, atol=1e-5)
