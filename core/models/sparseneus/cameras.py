# SPDX-License-Identifier: GPL-3.0-or-later
"""The cameras of One-2-3-45 (Liu et al. 2023): two rings of views around the object, and the cube they are put into.

World: z up. Polar angles count from +z, azimuths from -y towards +x. Float64 inside; float32 where the original has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RADIUS = 1.2
"""Distance of every camera from the origin."""
FOCAL, SIDE = 280.0, 256
"""Pixels: 49.13 degrees."""
NEAR, FAR = 0.5, 1.8
NEAR_VIEWS = ((-10, 0), (10, 0), (0, -10), (0, 10))
"""Changes of (polar, azimuth) in degrees of the four views beside each first-stage view."""
HIGH_POLAR = 75
"""Above this polar angle the second ring lies 30 degrees higher instead of lower."""


def intrinsics() -> Array:
    """K (3, 3), pixels of 256 x 256."""
    return np.array([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]])


def camera_to_world(polar_deg: float, azimuth_deg: float) -> Array:
    """(4, 4) with OpenGL axes (right, up, back), looking at the origin from distance 1.2."""
    theta, phi = np.radians(azimuth_deg), np.radians(polar_deg)
    centre = RADIUS * np.array([np.sin(theta) * np.sin(phi), -np.cos(theta) * np.sin(phi), np.cos(phi)])
    back = centre / np.linalg.norm(centre)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    out = np.eye(4)
    out[:3] = np.stack([right, np.cross(back, right), back, centre], 1)
    return out


def opencv(pose: Array) -> Array:
    """OpenGL camera axes -> OpenCV camera axes (or back), (..., 4, 4)."""
    return pose * np.array([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Views:
    """All views of a run in the order of the original's file."""

    names: tuple[str, ...]
    """File names: eight first-stage ids, then `id_0` .. `id_3` for each."""
    poses: Array
    """(40, 4, 4) camera to world, OpenGL axes."""


def all_views(polar_deg: float) -> Views:
    """Cameras of all 40 pictures for an input picture at this polar angle (its azimuth is 30 degrees)."""
    low = polar_deg <= HIGH_POLAR
    ring = polar_deg + (30 if low else -30)
    ids = [*range(4), *(range(4, 8) if low else range(8, 12))]
    angles = [(polar_deg, 30.0 + 90 * i) for i in range(4)] + [(ring, 60.0 + 90 * i) for i in range(4)]
    names = [f"{i}.png" for i in ids] + [f"{i}_{k}.png" for i in ids for k in range(4)]
    near = [(polar + dp, azimuth + da) for polar, azimuth in angles for dp, da in NEAR_VIEWS]
    return Views(tuple(names), np.stack([camera_to_world(*pair) for pair in angles + near]))


@dataclass(frozen=True)
class CubeCameras:
    """Cameras in the cube -1..1 whose axes are those of the reference camera (OpenCV: x right, y down, z forward)."""

    scale: Array
    """(4, 4) cube -> reference camera's frame: r on the diagonal, m as translation."""
    reference: Array
    """(4, 4) reference camera to world, OpenCV axes."""
    world_to_cam: Array
    """(V, 4, 4)."""
    cam_to_world: Array
    """(V, 4, 4)."""
    affine: Array
    """(V, 4, 4) K [R | t], last row 0 0 0 1."""
    near_far: Array
    """(V, 2) along the rays; near may be negative."""

    def to_world(self) -> Array:
        """(4, 4) cube -> world of the rings (z up; the input camera stands at azimuth 30 degrees)."""
        return self.reference @ self.scale


def in_cube(
    poses: Array, reference: int = 0, bounding: Sequence[int] | None = None, k: Array | None = None
) -> CubeCameras:
    """Put cameras into the cube: the frustums' common box, 10 % larger, becomes -1..1.

    Args:
        poses: (V, 4, 4) camera to world, OpenGL axes.
        reference: index of the camera whose axes the cube takes.
        bounding: indices of the cameras whose frustums count (the original: the reference and the 32 near views).
        k: (3, 3) intrinsics; None means those of the published pictures.
    """
    k = intrinsics() if k is None else k
    to_world = opencv(poses)
    to_reference = np.linalg.inv(to_world[reference]) @ to_world  # (V, 4, 4) camera -> reference camera
    counted = to_reference[list(bounding)] if bounding is not None else to_reference
    pixels = np.array([[u, v, 1.0] for u in (0, SIDE) for v in (0, SIDE)])
    corners = np.concatenate([depth * pixels @ np.linalg.inv(k).T for depth in (NEAR, FAR)])  # (8, 3)
    points = corners @ counted[:, :3, :3].transpose(0, 2, 1) + counted[:, None, :3, 3]  # (V, 8, 3)
    low, high = points.min((0, 1)), points.max((0, 1))
    middle, radius = (low + high) / 2, 1.1 * (high - low).max() / 2
    scale = np.diag([radius, radius, radius, 1.0])
    scale[:3, 3] = middle
    cube = to_reference.copy()
    cube[:, :3, 3] = (cube[:, :3, 3] - middle) / radius
    back = np.linalg.inv(cube).astype(np.float64)
    affine = back.copy()
    affine[:, :3] = k @ back[:, :3]
    distance = np.linalg.norm(cube[:, :3, 3], axis=1)
    near_far = np.stack([0.95 * (distance - 1), 1.05 * (distance + 1)], 1)
    return CubeCameras(scale, to_world[reference], back, cube, affine, near_far)


def pixel_rays(k: Array, cam_to_world: Array, pixels: Array) -> tuple[Array, Array]:
    """Origins (N, 3) and unit directions (N, 3) through integer pixel positions (N, 2) as x, y (no half-pixel offset)."""
    local = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ np.linalg.inv(k).T
    local /= np.linalg.norm(local, axis=1, keepdims=True)
    directions = local @ cam_to_world[:3, :3].T
    return np.broadcast_to(cam_to_world[:3, 3], directions.shape), directions
