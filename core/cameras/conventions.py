# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of convention: OpenCV and OpenGL axes, pictures of other size, pictures turned by EXIF, similarities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..types import Camera
from . import rotations

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
"""Flips y and z of the camera frame; its own inverse (spec-pose 0.1)."""


def flip_axes(cam_to_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) OpenCV camera-to-world -> OpenGL/Blender camera-to-world, and back. The world stays."""
    return np.asarray(cam_to_world @ OPENGL_FROM_OPENCV)


def for_picture(camera: Camera, width: int, height: int, exif_orientation: int = 1) -> Camera:
    """The camera for the same picture at `width` x `height`, as it stands upright.

    A file whose size is that of the stored, not yet turned picture (EXIF orientation 5 to 8) is turned first.
    A half turn (orientation 3) cannot be told from the size and is left alone.

    Raises:
        ValueError: the shapes differ by more than 1 %: it is another picture, or a crop.
    """
    if exif_orientation in (6, 8) and (camera.width > camera.height) != (width > height):
        camera = turn_quarter(camera, clockwise=exif_orientation == 6)
    if abs(camera.width * height / (camera.height * width) - 1) > 0.01 and not _rounded(
        camera, width, height
    ):
        raise ValueError(
            f"made for {camera.width} x {camera.height} pixels, the photo has {width} x {height}"
        )
    return camera if (camera.width, camera.height) == (width, height) else camera.resized(width, height)


def _rounded(camera: Camera, width: int, height: int) -> bool:
    """True where rounding to whole pixels alone explains the other shape (thumbnails)."""
    scale = camera.width / width
    return abs(camera.height - height * scale) <= max(1.0, scale)


def turn_quarter(camera: Camera, clockwise: bool = True) -> Camera:
    """The camera of the same photo after the picture is turned by 90 degrees.

    Clockwise: pixel (u, v) goes to (height - v, u), so the new x axis is the old -y and the new y axis the old x.
    """
    k1, k2, p1, p2 = camera.distortion
    turn = np.eye(4)
    if clockwise:
        turn[:3, :3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]  # columns: new axes in the old camera frame
        cx, cy, tangential = camera.height - camera.cy, camera.cx, (p2, -p1)
    else:
        turn[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
        cx, cy, tangential = camera.cy, camera.width - camera.cx, (-p2, p1)
    return replace(
        camera, width=camera.height, height=camera.width, fx=camera.fy, fy=camera.fx, cx=cx, cy=cy,
        cam_to_world=camera.cam_to_world @ turn, distortion=(k1, k2, *tangential),
    )  # fmt: skip


def move_camera(camera: Camera, similarity: NDArray[np.float64]) -> Camera:
    """The camera in another frame: `similarity` (4, 4) = [s R | t]; the pose stays rigid."""
    scale = np.cbrt(np.linalg.det(similarity[:3, :3]))
    pose = np.eye(4)
    pose[:3, :3] = similarity[:3, :3] / scale @ camera.cam_to_world[:3, :3]
    pose[:3, 3] = similarity[:3, :3] @ camera.centre + similarity[:3, 3]
    return replace(camera, cam_to_world=pose)


def fit_similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) source and target points, N >= 3 not on a line -> (4, 4) [s R | t] with least squared distance.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991, eq. 40-42.

    Raises:
        ValueError: fewer than three points, or all source points in one place.
    """
    if len(source) < 3:
        raise ValueError(f"{len(source)} points do not fix a similarity")
    s0, t0 = source - source.mean(0), target - target.mean(0)
    spread = float((s0**2).sum())
    if spread < 1e-20:
        raise ValueError("all points in one place")
    u, d, vt = np.linalg.svd(t0.T @ s0)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    out = np.eye(4)
    rotation = u @ np.diag(sign) @ vt
    scale = float((d * sign).sum()) / spread
    out[:3, :3] = scale * rotation
    out[:3, 3] = target.mean(0) - scale * rotation @ source.mean(0)
    return out


def align_cameras(source: list[Camera], target: list[Camera]) -> NDArray[np.float64]:
    """Similarity (4, 4) that moves `source` cameras onto `target` cameras of the same photos, robust to a few wrong ones.

    The rotation is the chordal median (iteratively reweighted mean) of the single rotations, which stays defined when
    all centres lie on a line; scale and shift follow from the centres with the same weights.

    Raises:
        ValueError: fewer than two cameras in common.
    """
    if len(source) != len(target) or len(source) < 2:
        raise ValueError("aligning needs two cameras in common")
    pairs = [b.cam_to_world[:3, :3] @ a.cam_to_world[:3, :3].T for a, b in zip(source, target, strict=True)]
    stack = np.array(pairs)
    weights = np.ones(len(stack))
    rotation = np.eye(3)
    for _ in range(20):
        rotation = rotations.nearest(np.einsum("n,nij->ij", weights, stack))
        weights = 1.0 / np.maximum(rotations.angle_deg(rotation.T @ stack), 0.05)
    a = np.array([c.centre for c in source]) @ rotation.T
    b = np.array([c.centre for c in target])
    scale, shift = 1.0, np.zeros(3)
    for _ in range(20):
        ma, mb = np.average(a, axis=0, weights=weights), np.average(b, axis=0, weights=weights)
        a0, b0 = a - ma, b - mb
        scale = float(np.sqrt((weights @ (b0**2).sum(1)) / max(weights @ (a0**2).sum(1), 1e-20)))
        shift = mb - scale * ma
        residual = np.linalg.norm(scale * a + shift - b, axis=1)
        weights = 1.0 / np.maximum(residual, 1e-3 * np.linalg.norm(b0, axis=1).max() + 1e-12)
    out = np.eye(4)
    out[:3, :3] = scale * rotation
    out[:3, 3] = shift
    return out
