# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras on a sphere and codes on a sphere: sampling, look-at, spherical interpolation (GRAF, GIRAFFE).

World z-up; u, v in 0..1 give the azimuth 2 pi u and the polar angle arccos(1 - 2 v) from +z, uniform over the area.
Poses are OpenGL (camera looks along -z, +y up), that is a Blender camera's `matrix_world`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def polar_from_v(v: float) -> float:
    """v -> polar angle from +z in degrees."""
    return math.degrees(math.acos(1.0 - 2.0 * v))


def v_from_polar(polar_deg: float) -> float:
    """Inverse of `polar_from_v`."""
    return (1.0 - math.cos(math.radians(polar_deg))) / 2.0


def point_on_sphere(u: Tensor, v: Tensor) -> Tensor:
    """u, v (...) in 0..1 -> (..., 3) unit vectors."""
    theta, phi = 2.0 * math.pi * u, torch.arccos(1.0 - 2.0 * v)
    return torch.stack(
        [torch.sin(phi) * torch.cos(theta), torch.sin(phi) * torch.sin(theta), torch.cos(phi)], -1
    )


def look_at(eye: Tensor, target: Tensor | None = None) -> Tensor:
    """eye (..., 3) -> (..., 3, 3) rotations whose columns are the camera's x, y, z with z from `target` (origin) to the eye."""
    up = torch.tensor([0.0, 0.0, 1.0], dtype=eye.dtype, device=eye.device).expand(eye.shape)
    z = _unit(eye if target is None else eye - target)
    x = _unit(torch.linalg.cross(up, z))
    y = _unit(torch.linalg.cross(z, x))
    return torch.stack([x, y, z], -1)


def slerp(first: Tensor, second: Tensor, t: float) -> Tensor:
    """Codes (B, D) between `first` (t = 0) and `second` (t = 1) along the great circle; lengths follow the same weights."""
    cosine = (first * second).sum(-1) / (first.norm(dim=-1) * second.norm(dim=-1))
    omega = torch.arccos(cosine.clamp(-1.0, 1.0))[..., None]
    return (torch.sin((1.0 - t) * omega) * first + torch.sin(t * omega) * second) / torch.sin(omega)


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
