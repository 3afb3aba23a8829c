# SPDX-License-Identifier: GPL-3.0-or-later
"""From the encoder's numbers to cameras: one free camera, or a sphere of candidates with probabilities (spec A.5, A.6).

Cameras are `Poses`: OpenCV axes, world Z up. All functions are differentiable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = {4: 1, 8: 2, 12: 2, 18: 3, 24: 3}
"""Rows of elevation per number of candidates. Our choice, over 0..90 degrees: the spec's rows at 15 and 50 degrees reach up
to 71, and the photos of a small thing go to the zenith."""
TURN = 0.35
"""Radians per axis that a candidate may turn away from the origin."""


@dataclass(frozen=True)
class Poses:
    """Cameras, any leading shape: rotation (..., 3, 3) camera to world, centre (..., 3)."""

    rotation: Tensor
    centre: Tensor

    def __getitem__(self, index: object) -> Poses:
        return Poses(self.rotation[index], self.centre[index])  # type: ignore[index]

    def detach(self) -> Poses:
        """Without gradient."""
        return Poses(self.rotation.detach(), self.centre.detach())

    def moved(self, step: Tensor, pivot: Tensor) -> Poses:
        """step (..., 6): carried around `pivot` (3,) by an axis-angle, then shifted along the camera's own axes by the rest.

        With the pivot in the scene the first three change the side that is seen and the others where it stands in the
        picture: numbers that can be found independently, where a camera's own turn and shift nearly undo each other.
        """
        turn = rotation_of(step[..., :3])
        rotation = turn @ self.rotation
        centre = turn @ (self.centre - pivot)[..., None] + rotation @ step[..., 3:, None]
        return Poses(rotation, centre[..., 0] + pivot)

    def angle_to(self, other: Poses) -> Tensor:
        """(...) geodesic distance of the rotations, radians; not differentiable at 0."""
        trace = (self.rotation * other.rotation).sum((-1, -2))
        return torch.acos(((trace - 1) / 2).clamp(-1, 1))


def rotation_of(axis_angle: Tensor) -> Tensor:
    """(..., 3) radians -> (..., 3, 3); Rodrigues with the series near zero, where gradients must stay finite (spec 0.3)."""
    squared = axis_angle.square().sum(-1)[..., None, None]
    small = squared < 1e-4
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    a = torch.where(small, 1 - squared / 6 + squared.square() / 120, angle.sin() / angle)
    b = torch.where(small, 0.5 - squared / 24 + squared.square() / 720, (1 - angle.cos()) / safe)
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.eye(3, device=axis_angle.device, dtype=axis_angle.dtype) + a * cross + b * cross @ cross


def mean_rotation(rotations: Tensor) -> Tensor:
    """(V, ..., 3, 3) -> (..., 3, 3): the rotation nearest to all in the least squares of their matrices."""
    u, _, v = torch.linalg.svd(rotations.mean(0))
    u = torch.cat([u[..., :2], u[..., 2:] * torch.linalg.det(u @ v)[..., None, None]], -1)
    return u @ v


def looking_at_origin(azimuth: Tensor, elevation: Tensor, radius: Tensor | float) -> Poses:
    """Cameras on a sphere around the origin, upright; angles in radians, any shape. Smooth at the zenith too."""
    ca, sa, ce, se = azimuth.cos(), azimuth.sin(), elevation.cos(), elevation.sin()
    place = torch.stack([ce * ca, ce * sa, se], -1)
    right = torch.stack([-sa, ca, torch.zeros_like(sa)], -1)
    down = torch.stack([se * ca, se * sa, -ce], -1)
    centre = place * (radius[..., None] if isinstance(radius, Tensor) else radius)
    return Poses(torch.stack([right, down, -place], -1), centre)


class SingleCamera:
    """Mode for forward-facing scenes: three numbers turn a camera at the origin that looks along +z, three shift it.

    The encoder learns the paper's numbers. Carried around the pivot, as refinement does it, its cameras drifted along what
    it cannot see: 3.9 degrees instead of 2.4 after 1200 steps on the relief (`tests.bench_diffusion forward`).

    Args:
        depth: of the pivot on the z axis.
    """

    def __init__(self, depth: float) -> None:
        self.count, self.outputs = 1, 6
        self.pivot = torch.tensor([0.0, 0.0, depth])

    def poses(self, raw: Tensor) -> tuple[Poses, Tensor]:
        """raw (B, 6) -> poses (B, 1), log probabilities (B, 1), all zero."""
        raw = raw[:, None]
        return Poses(rotation_of(raw[..., :3]), raw[..., 3:]), torch.zeros_like(raw[..., 0])


class CandidateSphere:
    """Candidates around the origin, each with its own region and a probability.

    Args:
        count: 4, 8, 12, 18 or 24.
        radius: of the sphere, result's units.
    """

    def __init__(self, count: int, radius: float) -> None:
        rows = ROWS[count]
        columns = count // rows
        self.count, self.radius, self.outputs = count, radius, 7 * count
        self.pivot = torch.zeros(3)
        self.reach_azimuth = 1.2 * math.pi / columns  # regions overlap by a fifth
        self.reach_elevation = 0.6 * (0.5 * math.pi / rows)
        turn = 2 * math.pi / columns
        row = torch.arange(rows).repeat_interleave(columns)
        # Every other row is turned by half a column, as bricks are laid.
        self.azimuth = (torch.arange(columns).repeat(rows) + 0.5 * (row % 2)) * turn
        self.elevation = (row + 0.5) * (0.5 * math.pi / rows)

    def poses(self, raw: Tensor) -> tuple[Poses, Tensor]:
        """raw (B, 7 count) -> poses (B, count) and log probabilities (B, count)."""
        raw = raw.unflatten(1, (self.count, 7))
        bounded = torch.tanh(raw[..., :6])
        azimuth = self.azimuth.to(raw.device) + self.reach_azimuth * bounded[..., 0]
        elevation = self.elevation.to(raw.device) + self.reach_elevation * bounded[..., 1]
        looking = looking_at_origin(azimuth, elevation, self.radius * torch.exp(0.25 * bounded[..., 2]))
        rotation = looking.rotation @ rotation_of(TURN * bounded[..., 3:])
        return Poses(rotation, looking.centre), F.log_softmax(raw[..., 6], -1)

    def nearest(self, centre: Tensor) -> Tensor:
        """(B, 3) camera centres -> (B,) candidate whose region they lie deepest in."""
        azimuth = torch.atan2(centre[:, 1], centre[:, 0])
        elevation = torch.atan2(centre[:, 2], centre[:, :2].norm(dim=1))
        away = (azimuth[:, None] - self.azimuth + math.pi).remainder(2 * math.pi) - math.pi
        rise = elevation[:, None] - self.elevation
        return torch.maximum(away.abs() / self.reach_azimuth, rise.abs() / self.reach_elevation).argmin(1)
