# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras and rays of TripoSR and OpenLRM, each in the frame of its own planes. float32, as published."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SOURCE_DISTANCE = 2.0
"""OpenLRM: distance of the canonical camera."""
FOCAL = 0.75
"""OpenLRM: focal length over picture side (24 mm on 32 mm)."""


def triposr_rays(
    count: int, elevation_deg: float, distance: float, fov_y_deg: float, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """TripoSR's turntable: azimuth i 360 / count, camera on +x at azimuth 0, z up.

    Returns:
        Origins and unit directions, each (count, height, width, 3).
    """
    azimuth = torch.linspace(0, 360, count + 1)[:count] * math.pi / 180
    elevation = torch.full_like(azimuth, elevation_deg) * math.pi / 180
    flat = elevation.cos()
    position = distance * torch.stack(
        [flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()], -1
    )  # (V, 3)
    look = -position / position.norm(dim=-1, keepdim=True)
    right = torch.linalg.cross(look, look.new_tensor([0.0, 0.0, 1.0]).expand_as(look))
    right = right / right.norm(dim=-1, keepdim=True)
    up = torch.linalg.cross(right, look)
    up = up / up.norm(dim=-1, keepdim=True)
    focal = 0.5 * height / math.tan(0.5 * math.radians(fov_y_deg))
    i, j = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = (j + 0.5 - width / 2) / focal, (i + 0.5 - height / 2) / focal  # (H, W)
    directions = (
        x[None, ..., None] * right[:, None, None]
        - y[None, ..., None] * up[:, None, None]
        + look[:, None, None]
    )
    directions = directions / directions.norm(dim=-1, keepdim=True)
    return position[:, None, None].expand_as(directions), directions


def openlrm_source(distance: float = SOURCE_DISTANCE, focal: float = FOCAL) -> Tensor:
    """OpenLRM's canonical camera vector (16): rows of the 3x4 camera-to-world matrix, then fx, fy, cx, cy over the side.

    Blender's axes: the camera stands at (0, -distance, 0), looks along +y, up +z.
    """
    matrix = [1, 0, 0, 0, 0, 0, -1, -distance, 0, 1, 0, 0]
    return torch.tensor([*matrix, focal, focal, 0.5, 0.5], dtype=torch.float32)


def openlrm_turntable(
    views: int,
    distance: float = SOURCE_DISTANCE,
    height: float = 0.8,
    focal: float = FOCAL,
    closed: bool = True,
) -> Tensor:
    """OpenLRM's turntable: (views, 25) = 4x4 camera-to-world (Blender's camera axes) and 3x3 intrinsics over the side.

    Args:
        views: number of cameras.
        distance: of every camera from the origin.
        height: of every camera above the origin.
        focal: over the picture side.
        closed: the last camera equals the first (1.1); otherwise the circle is divided evenly (1.0).
    """
    radius = math.sqrt(distance**2 - height**2)
    if closed:
        angle = torch.linspace(-0.5 * math.pi, 1.5 * math.pi, views)
    else:
        angle = -0.5 * math.pi + 2 * math.pi * torch.arange(views) / views
    position = torch.stack([radius * angle.cos(), radius * angle.sin(), torch.full_like(angle, height)], -1)
    back = position / position.norm(dim=-1, keepdim=True)
    right = torch.linalg.cross(back.new_tensor([0.0, 0.0, 1.0]).expand_as(back), back)
    right = right / right.norm(dim=-1, keepdim=True)
    up = torch.linalg.cross(back, right)
    up = up / up.norm(dim=-1, keepdim=True)
    matrix = torch.eye(4).repeat(views, 1, 1)
    matrix[:, :3] = torch.stack([right, up, back, position], -1)
    intrinsics = torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]]).expand(views, 3, 3)
    return torch.cat([matrix.flatten(1), intrinsics.flatten(1)], 1)


def openlrm_rays(cameras: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Cameras (V, 25) -> origins and unit directions (V, side*side, 3), pixel centres, row by row."""
    matrix, intrinsics = cameras[:, :16].view(-1, 4, 4), cameras[:, 16:].view(-1, 3, 3)
    pixel = torch.arange(side, device=cameras.device)
    i, j = torch.meshgrid(pixel, pixel, indexing="ij")
    x, y = ((j + 0.5) / side).flatten(), ((i + 0.5) / side).flatten()
    local = torch.stack(
        [
            (x - intrinsics[:, 0, 2:]) / intrinsics[:, 0, :1],
            -(y - intrinsics[:, 1, 2:]) / intrinsics[:, 1, 1:2],
            cameras.new_full((len(cameras), side * side), -1),
        ],
        -1,
    )  # (V, N, 3) in the camera's axes
    directions = local @ matrix[:, :3, :3].mT
    directions = directions / directions.norm(dim=-1, keepdim=True)
    return matrix[:, None, :3, 3].expand_as(directions), directions
