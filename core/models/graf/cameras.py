# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths of GRAF's evaluation: around the object and over it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..parts.sphere_poses import look_at
from .generator import GrafData

LEAST_ANGLE_DEG = 0.1
"""Smaller angles are raised to it, as published (at the pole the camera's axes are not defined)."""


def pose_at(azimuth_deg: float, polar_deg: float, radius: float) -> Tensor:
    """(3, 4) float64 camera to world on the sphere, looking at the origin."""
    azimuth, polar = (math.radians(max(angle, LEAST_ANGLE_DEG)) for angle in (azimuth_deg, polar_deg))
    unit = (math.sin(polar) * math.cos(azimuth), math.sin(polar) * math.sin(azimuth), math.cos(polar))
    eye = radius * torch.tensor(unit, dtype=torch.float64)
    return torch.cat([look_at(eye), eye[:, None]], 1)


def rotation_poses(data: GrafData, number: int) -> Tensor:
    """(N, 3, 4): over the azimuth range at the mean polar angle, largest radius; the end is left out."""
    low, high = data.azimuth_deg
    polar = sum(data.polar_deg) / 2
    return torch.stack(
        [pose_at(low + (high - low) * i / number, polar, data.radius[1]) for i in range(number)]
    )


def elevation_poses(data: GrafData, number: int) -> Tensor:
    """(N, 3, 4): over the polar range at the mean azimuth."""
    low, high = data.polar_deg
    azimuth = sum(data.azimuth_deg) / 2
    return torch.stack(
        [pose_at(azimuth, low + (high - low) * i / number, data.radius[1]) for i in range(number)]
    )
