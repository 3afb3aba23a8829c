# SPDX-License-Identifier: GPL-3.0-or-later
"""CAMPARI's camera generator: a learned distribution of lens, angles and distance (section 3.2).

Poses are Blender's `matrix_world`: world z-up, the camera looks along -z; negative elevation is above the horizon.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PRIOR_SPREAD = 0.15
_TO_Z_UP = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))


class CameraNetwork(nn.Module):
    """Prior parameters to residuals; the posterior is their sum."""

    def __init__(self, dim: int = 5, hidden: int = 64, n_blocks: int = 4) -> None:
        super().__init__()
        self.fc_in = nn.Linear(dim, hidden)
        self.fc_out = nn.Linear(hidden, dim)
        self.blocks = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(n_blocks))
        nn.init.normal_(self.fc_out.weight, std=0.05)
        nn.init.zeros_(self.fc_out.bias)

    def forward(self, prior: Tensor) -> Tensor:
        """prior (B, d) -> posterior (B, d)."""
        h = self.fc_in(prior)
        for block in self.blocks:
            h = block(F.relu(h))
        return prior + self.fc_out(F.relu(h))


class Cameras(NamedTuple):
    """Parameters of cameras (B,)."""

    fov_x: Tensor
    """Degrees."""
    fov_y: Tensor
    rotation: Tensor
    """(B, 2, 2) [[c, -s], [s, c]] of the angle about the vertical axis."""
    elevation: Tensor
    """Degrees."""
    radius: Tensor

    @property
    def angle_deg(self) -> Tensor:
        """The angle that is used, degrees."""
        return torch.rad2deg(torch.atan2(self.rotation[:, 1, 0], self.rotation[:, 0, 0]))

    @property
    def reported_angle_deg(self) -> Tensor:
        """What the published code reports for eight-parameter cameras: twice the angle (a mistake kept for comparison)."""
        return 2.0 * torch.rad2deg(torch.atan2(self.rotation[:, 1, 0], self.rotation[:, 0, 0].abs()))

    def pose(self) -> Tensor:
        """(B, 4, 4) camera to world: A Ry(rotation) Rx(elevation) T(0, 0, radius)."""
        turn, tilt = self.rotation_matrix()[:, :3, :3], rotation_x(torch.deg2rad(self.elevation))
        matrix = torch.tensor(_TO_Z_UP).to(turn) @ turn @ tilt
        pose = torch.eye(4).to(turn).repeat(len(turn), 1, 1)
        pose[:, :3, :3], pose[:, :3, 3] = matrix, matrix[:, :, 2] * self.radius[:, None]
        return pose

    def rotation_matrix(self) -> Tensor:
        """(B, 4, 4) Ry."""
        c, s = self.rotation[:, 0, 0], self.rotation[:, 1, 0]
        matrix = torch.eye(4).to(c).repeat(len(c), 1, 1)
        matrix[:, 0, 0], matrix[:, 0, 2], matrix[:, 2, 0], matrix[:, 2, 2] = c, -s, s, c
        return matrix

    def focal(self, pixels: int) -> tuple[Tensor, Tensor]:
        """Focal lengths in pixels of the nominal picture."""
        x, y = (pixels / (2.0 * torch.tan(torch.deg2rad(fov) / 2.0)) for fov in (self.fov_x, self.fov_y))
        return x, y

    def depth_range(self) -> tuple[Tensor, Tensor]:
        """Near and far of the foreground: half a unit around the origin, never behind the camera."""
        return (self.radius - 0.5).clamp_min(0.0), self.radius + 0.5


def cameras_from(parameters: Tensor, fov: tuple[float, float] = (35.0, 25.0)) -> Cameras:
    """Posterior parameters to cameras.

    Args:
        parameters: (B, 5): fov x, fov y, rotation, elevation, radius; or (B, 8): fov x, fov y, elevation, radius and a
            2 x 2 matrix that is projected to a rotation. All but the matrix are clamped to -1..1.
        fov: middle and reach in degrees (chairs: 49.1, 0).
    """
    if parameters.shape[1] == 5:
        fx, fy, turn, elevation, radius = parameters.clamp(-1.0, 1.0).unbind(1)
        rotation = rotation_2d(torch.deg2rad(90.0 * turn))
    else:
        fx, fy, elevation, radius = parameters[:, :4].clamp(-1.0, 1.0).unbind(1)
        rotation = nearest_rotation(parameters[:, 4:].reshape(-1, 2, 2))
    middle, reach = fov
    return Cameras(middle + reach * fx, middle + reach * fy, rotation, 90.0 * elevation, 0.75 + 0.25 * radius)


def nearest_rotation(matrix: Tensor) -> Tensor:
    """(B, 2, 2) -> the rotation nearest to it: U diag(1, det U V^T) V^T."""
    u, _, vt = torch.linalg.svd(matrix)
    sign = torch.linalg.det(u @ vt)
    return u @ torch.diag_embed(torch.stack([torch.ones_like(sign), sign], -1)) @ vt


def rotation_2d(angle: Tensor) -> Tensor:
    """(B,) radians -> (B, 2, 2)."""
    c, s = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)


def rotation_x(angle: Tensor) -> Tensor:
    """(B,) radians -> (B, 3, 3)."""
    c, s = torch.cos(angle), torch.sin(angle)
    one, zero = torch.ones_like(c), torch.zeros_like(c)
    rows = [[one, zero, zero], [zero, c, -s], [zero, s, c]]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def sample_prior(dim: int, number: int, seed: int) -> Tensor:
    """(number, d) parameters of the prior; d = 8 draws the elevation uniformly, which covers the sphere's heights."""
    generator = torch.Generator().manual_seed(seed)
    prior = PRIOR_SPREAD * torch.randn(number, dim, generator=generator)
    if dim == 8:
        prior[:, 2] = 0.95 * (2.0 * torch.rand(number, generator=generator) - 1.0)
    return prior


def lattice_rays(cameras: Cameras, side: int, pixels: int) -> tuple[Tensor, Tensor]:
    """Origins (B, 1, 1, 3) and unnormalised directions (B, side, side, 3), rows first.

    Args:
        cameras: B cameras.
        side: lattice over the picture, both ends included.
        pixels: side of the nominal picture, which focal lengths refer to.
    """
    pose, (fx, fy) = cameras.pose(), cameras.focal(pixels)
    place = (torch.linspace(-1.0, 1.0, side).to(pose) + 1.0) / 2.0 * (pixels - 1) - pixels / 2.0
    y, x = torch.meshgrid(place, place, indexing="ij")
    fx, fy = fx[:, None, None], fy[:, None, None]
    local = torch.stack([x / fx, -y / fy, -torch.ones_like(x / fx)], -1)  # (B, side, side, 3)
    direction = (local[..., None, :] * pose[:, None, None, :3, :3]).sum(-1)  # autocast must not round rays
    return pose[:, None, None, :3, 3], direction


def fov_from_focal(focal: float, pixels: int) -> float:
    """Degrees."""
    return math.degrees(2.0 * math.atan(pixels / (2.0 * focal)))
