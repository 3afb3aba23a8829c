# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of the sky the vertices of a mesh see (ambient occlusion), by z-buffers from directions all around."""

from __future__ import annotations

import numpy as np
import torch
from maquette.core.render.rasterize import rasterize
from maquette.core.types import Camera
from numpy.typing import NDArray

from .drawing import vertex_normals

DIRECTIONS, SIDE, FAR = 40, 160, 40.0
"""Views, their pixels, and the distance of the cameras in radii of the mesh (nearly parallel rays)."""
TOLERANCE = 0.012
"""Of the radius: nearer surfaces than this do not hide."""


def sky_share(vertices: NDArray[np.float32], faces: NDArray[np.int64]) -> NDArray[np.float32]:
    """(V,) 0..1, cosine-weighted over each vertex's hemisphere."""
    used = vertices[np.unique(faces)]
    middle = (used.min(0) + used.max(0)) / 2
    radius = float(np.linalg.norm(used - middle, axis=1).max())
    points = ((vertices - middle) / radius).astype(np.float32)
    normals = vertex_normals(points, faces)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    seen, total = np.zeros(len(points)), np.zeros(len(points))
    for direction in sphere(DIRECTIONS):
        camera = looking(-direction)
        pixels, depth = camera.project(points.astype(np.float64))
        nearest = rasterize(torch.from_numpy(points), torch.from_numpy(faces), camera).depth.numpy()
        at = np.clip(pixels.astype(np.int64), 0, SIDE - 1)
        weight = np.maximum(normals @ direction, 0)
        seen += weight * (depth < nearest[at[:, 1], at[:, 0]] + TOLERANCE)
        total += weight
    return (seen / np.maximum(total, 1e-6)).astype(np.float32)


def sphere(count: int) -> NDArray[np.float64]:
    """(count, 3) unit directions, a Fibonacci lattice."""
    k = np.arange(count) + 0.5
    height, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - height**2)
    return np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], 1)


def looking(forward: NDArray[np.float64]) -> Camera:
    """A far camera at the unit sphere, looking along a unit direction."""
    aside = np.cross([0.0, 1.0, 0.0] if abs(forward[1]) < 0.9 else [1.0, 0.0, 0.0], forward)
    aside /= np.linalg.norm(aside)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([aside, np.cross(forward, aside), forward], 1)
    pose[:3, 3] = -FAR * forward
    focal = 0.48 * SIDE * FAR
    return Camera("", SIDE, SIDE, focal, focal, SIDE / 2, SIDE / 2, pose)
