# SPDX-License-Identifier: GPL-3.0-or-later
"""A made scene with known cameras: points in a box seen by a ring of pinhole cameras with a real lens."""

from __future__ import annotations

import numpy as np
import pytest
from maquette.core.cameras.distortion import distort
from maquette.core.poses.sparse_model import SparseModel

SIZE = (640, 480)
LENS = np.array([600.0, 600.0, 331.0, 236.0, 0.06, -0.08, 0.0005, -0.0004])


def look_at(centre: np.ndarray, target: np.ndarray, up: np.ndarray, roll_deg: float = 0.0) -> np.ndarray:
    """(4, 4) camera-to-world, OpenCV axes."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward], 1)
    cosine, sine = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    out = np.eye(4)
    out[:3, :3] = axes @ np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    out[:3, 3] = centre
    return out


@pytest.fixture
def ring() -> SparseModel:
    """12 cameras over 270 degrees, two heights, 400 points, exact observations of nearest-looking half of the points."""
    random = np.random.default_rng(0)
    points = random.uniform(-1, 1, (400, 3))
    poses = []
    for number in range(12):
        angle = np.radians(270 * number / 12)
        centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.0 + 1.2 * (number % 2)])
        poses.append(np.linalg.inv(look_at(centre, np.zeros(3), np.array([0, 0, 1.0])))[:3])
    image_of, point_of, feature_of, pixels = [], [], [], []
    for number, pose in enumerate(poses):
        centre = -pose[:, :3].T @ pose[:, 3]
        seen = np.flatnonzero(points @ centre > -0.3)
        local = points[seen] @ pose[:, :3].T + pose[:, 3]
        pixel = distort(local[:, :2] / local[:, 2:], tuple(LENS[4:])) * LENS[:2] + LENS[2:4]
        image_of += [number] * len(seen)
        point_of += seen.tolist()
        feature_of += seen.tolist()  # feature number = point number in every image
        pixels.append(pixel)
    return SparseModel(
        images=[f"g0/{n:05d}.png" for n in range(12)],
        poses=np.array(poses),
        lens_of_image=np.zeros(12, np.int32),
        lenses=LENS[None].copy(),
        points=points,
        colors=np.full((400, 3), 128, np.uint8),
        image_of=np.array(image_of, np.int32),
        point_of=np.array(point_of, np.int32),
        feature_of=np.array(feature_of, np.int32),
        pixels=np.concatenate(pixels),
        mapper="made",
    )
