# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos of a textured room corner, ray-cast in numpy: small, exact, rich in features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from maquette.core.types import Camera, Photo
from PIL import Image

from .conftest import look_at

WIDTH, HEIGHT, FOCAL = 360, 270, 330.0


def texture(seed: int) -> np.ndarray:
    """(512, 512, 3) noise with detail at every scale, 0..1."""
    random = np.random.default_rng(seed)
    out = np.zeros((512, 512, 3))
    for size in (8, 16, 32, 64, 128, 256):
        layer = Image.fromarray((random.uniform(size=(size, size, 3)) * 255).astype(np.uint8)).resize(
            (512, 512), 3
        )
        out += np.asarray(layer, float) / 255
    return (out - out.min()) / np.ptp(out)


def render(camera: Camera, textures: list[np.ndarray]) -> np.ndarray:
    """(H, W, 3) uint8: the planes x = 0, y = 0, z = 0 seen from the positive corner, two units to a texture."""
    fine = 2
    y, x = (np.mgrid[: camera.height * fine, : camera.width * fine] + 0.5) / fine
    rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], -1)
    rays = rays @ camera.cam_to_world[:3, :3].T
    with np.errstate(divide="ignore"):
        distance = -camera.centre / rays
    distance[distance <= 0] = np.inf
    plane = distance.argmin(-1)
    hit = camera.centre + rays * np.take_along_axis(distance, plane[..., None], -1)
    out = np.zeros((*x.shape, 3))
    for axis in range(3):
        mine = plane == axis
        u, v = (np.delete(hit[mine], axis, 1) * 256 % 512).T
        i, j, a, b = v.astype(int), u.astype(int), (v % 1)[:, None], (u % 1)[:, None]
        t, n, m = textures[axis], (i + 1) % 512, (j + 1) % 512
        out[mine] = (1 - a) * ((1 - b) * t[i, j] + b * t[i, m]) + a * ((1 - b) * t[n, j] + b * t[n, m])
    out = out.reshape(camera.height, fine, camera.width, fine, 3).mean((1, 3))
    return (out * 255 + 0.5).astype(np.uint8)


def cameras(count: int, span_deg: float = 60.0) -> list[Camera]:
    """On an arc around the corner, at two heights."""
    out = []
    for number in range(count):
        angle = np.radians(45 + span_deg * (number / max(count - 1, 1) - 0.5))
        centre = np.array([2.6 * np.cos(angle), 2.6 * np.sin(angle), 1.2 + 0.4 * (number % 2)])
        pose = look_at(centre, np.array([0.4, 0.4, 0.4]), np.array([0, 0, 1.0]))
        out.append(Camera(f"{number:02d}.png", WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, pose))
    return out


def shoot(folder: Path, views: list[Camera], seed: int = 0) -> list[Photo]:
    """Render into files named like the cameras."""
    folder.mkdir(parents=True, exist_ok=True)
    textures = [texture(seed * 3 + axis) for axis in range(3)]
    photos = []
    for camera in views:
        Image.fromarray(render(camera, textures)).save(folder / camera.name)
        photos.append(Photo(camera.name, folder / camera.name, camera.width, camera.height))
    return photos
