# SPDX-License-Identifier: GPL-3.0-or-later
"""Slow, readable z-buffer: meet the ray of every pixel with every triangle, in float64 (Moeller-Trumbore 1997)."""

from __future__ import annotations

import numpy as np
from maquette.core.types import Camera
from numpy.typing import NDArray


def rasterize(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], camera: Camera, near: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Same answer as `core.render.rasterize` : face (H, W), barycentric (H, W, 3), depth (H, W).

    The fourth array is True where float32 may well decide otherwise: within 1e-3 (barycentric) of a triangle's edge,
    or with two faces at nearly the same depth.
    """
    local = vertices @ camera.world_to_cam[:3, :3].T + camera.world_to_cam[:3, 3]
    face = np.full((camera.height, camera.width), -1)
    weights = np.zeros((camera.height, camera.width, 3))
    depth = np.full((camera.height, camera.width), np.inf)
    unsure = np.zeros((camera.height, camera.width), bool)
    for row in range(camera.height):
        for column in range(camera.width):
            ray = np.array([(column + 0.5 - camera.cx) / camera.fx, (row + 0.5 - camera.cy) / camera.fy, 1.0])
            for index, (a, b, c) in enumerate(local[faces]):
                # a + s (b - a) + t (c - a) = z ray
                system = np.stack([b - a, c - a, -ray], 1)
                if abs(np.linalg.det(system)) < 1e-15:
                    continue
                s, t, z = np.linalg.solve(system, -a)
                corner = np.array([1 - s - t, s, t])
                if z < near:
                    unsure[row, column] |= z > 0.99 * near
                    continue
                unsure[row, column] |= abs(corner.min()) < 1e-3 and z < depth[row, column] * 1.001
                if corner.min() >= 0:
                    unsure[row, column] |= abs(z - depth[row, column]) < 1e-5
                    if z < depth[row, column]:
                        face[row, column], weights[row, column], depth[row, column] = index, corner, z
    return face, weights, depth, unsure
