# SPDX-License-Identifier: GPL-3.0-or-later
"""What a photo can tell about points of a surface: is a point seen, how squarely, how finely, how far from any edge."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..render.rasterize import rasterize
from ..types import Camera, View

EDGE_PX = 1.5
"""Pixels next to a silhouette, a depth step or the mask's border that are not trusted: matting and cameras err so much."""
FEATHER = 0.008
"""Width of the ramp from there to full trust, as a share of the picture's long side; it feathers the seams."""


@dataclass(frozen=True)
class Sight:
    """One view's depth and trust maps, at no more than a given size."""

    camera: Camera
    depth: Tensor
    """(H, W) float32 z-depth of the mesh, infinite beside it."""
    trust: Tensor
    """(H, W) float32 0..1: 0 outside the mask and at edges."""
    slack: float
    """Depth tolerance in units of the mesh: 0.2 % of its diagonal (our choice; the photo's own geometry is no better)."""


def prepare(view: View, vertices: Tensor, faces: Tensor, longest: int) -> Sight:
    """Rasterise the mesh into a view; maps have at most `longest` pixels on their long side."""
    scale = min(1.0, longest / max(view.camera.width, view.camera.height))
    width, height = max(1, round(view.camera.width * scale)), max(1, round(view.camera.height * scale))
    camera = view.camera.resized(width, height)
    depth = rasterize(vertices, faces, camera).depth
    diagonal = float((vertices.amax(0) - vertices.amin(0)).norm()) if len(vertices) else 1.0
    usable = torch.isfinite(depth).cpu().numpy()
    for area in (view.mask, view.valid):
        if area is not None:
            usable &= cv2.resize(area, (width, height), interpolation=cv2.INTER_AREA) > 0.5
    near = torch.where(torch.isfinite(depth), depth, 1e9).cpu().numpy()
    step = 0.015 * diagonal
    for axis in (0, 1):
        jump = np.abs(np.diff(near, axis=axis)) > step
        pad = [(0, 0), (0, 0)]
        pad[axis] = (0, 1)
        usable &= ~np.pad(jump, pad)
        pad[axis] = (1, 0)
        usable &= ~np.pad(jump, pad)
    distance = cv2.distanceTransform(usable.astype(np.uint8), cv2.DIST_L2, 3)
    ramp = np.clip((distance - EDGE_PX) / (FEATHER * max(width, height) + 2.0), 0.0, 1.0)
    trust = torch.from_numpy((ramp * ramp * (3 - 2 * ramp)).astype(np.float32)).to(vertices.device)
    return Sight(camera, depth, trust, 0.002 * diagonal)


def look(sight: Sight, points: Tensor, normals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How well a view sees surface points.

    Args:
        sight: from `prepare`.
        points: (N, 3) float32 on the mesh. normals: (N, 3) unit, outward.

    Returns:
        (N,) trust 0..1, 0 where hidden, outside the picture or seen from behind; (N,) cosine between normal and the
        direction to the camera; (N,) z-depth.
    """
    camera = sight.camera
    pose = torch.as_tensor(camera.world_to_cam, dtype=torch.float32, device=points.device)
    local = points @ pose[:3, :3].T + pose[:3, 3]
    z = local[:, 2]
    front = z.clamp_min(1e-9)
    x = camera.fx * local[:, 0] / front + camera.cx
    y = camera.fy * local[:, 1] / front + camera.cy
    towards = -local / local.norm(dim=1, keepdim=True).clamp_min(1e-9)
    cosine = ((normals @ pose[:3, :3].T) * towards).sum(1)
    inside = (z > 0) & (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height) & (cosine > 0.02)
    trust = torch.zeros_like(z)
    index = torch.nonzero(inside).squeeze(1)
    column, row = x[index].long(), y[index].long()
    pixel = row * camera.width + column
    # A pixel of the depth map spans more depth the more the surface slants.
    slope = (1.0 / cosine[index].clamp_min(0.2) ** 2 - 1.0).sqrt()
    tolerance = sight.slack + z[index] / camera.fx * (0.5 + slope)
    visible = z[index] <= sight.depth.reshape(-1)[pixel] + tolerance
    grid = torch.stack([x[index] / camera.width, y[index] / camera.height], 1)[None, None] * 2 - 1
    smooth = torch.nn.functional.grid_sample(
        sight.trust[None, None], grid, padding_mode="border", align_corners=False
    )
    trust[index] = torch.where(visible, smooth[0, 0, 0], 0.0)
    return trust, cosine, z
