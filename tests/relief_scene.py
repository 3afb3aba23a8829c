# SPDX-License-Identifier: GPL-3.0-or-later
"""A forward-facing scene for benchmarks: a painted relief, photographed by cameras that turn by up to 12 degrees.

`python -m tests.relief_scene FOLDER` writes photo_00.png .. and transforms.json with the true cameras.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from maquette.core.cameras import nerf_json
from maquette.core.cameras.rotations import from_axis_angle
from maquette.core.render.rasterize import rasterize
from maquette.core.types import Camera
from numpy.typing import NDArray
from PIL import Image

VIEWS, SIDE, FOCAL = 16, 128, 1.1
"""Photos, their pixels, and the focal length in widths."""
DEPTH, RISE, EXTENT = 4.0, 0.6, 5.5
"""Mean distance of the relief, its height either way, half its side."""
TURN_DEG, SHIFT = 12.0, 0.1 * DEPTH
VERTICES = 700


def relief(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, NDArray[np.float32]]:
    """Vertices (V, 3), faces (F, 3) and vertex colours (V, 3): soft hills under paint, discs with sharp edges and one lamp."""
    draw = np.random.default_rng(seed)
    axis = np.linspace(-EXTENT, EXTENT, VERTICES)
    x, y = np.meshgrid(axis, axis)
    height = _blots(draw, x, y, [(60, 0.8)])[..., 0]
    height = RISE * height / np.abs(height).max()
    colour = 0.5 + _blots(draw, x, y, [(30, 1.2), (160, 0.45)])
    for cx, cy in draw.uniform(-EXTENT, EXTENT, (500, 2)):
        disc = (x - cx) ** 2 + (y - cy) ** 2 < draw.uniform(0.05, 0.3) ** 2
        colour[disc] = draw.uniform(0, 1, 3)
    slope_y, slope_x = np.gradient(height, axis, axis)
    light = (1 - 0.6 * slope_x - 0.4 * slope_y) / np.sqrt(1 + slope_x**2 + slope_y**2)
    colour *= light.clip(0.2, 1.4)[..., None] / 1.2
    vertices = np.stack([x, y, DEPTH + height], -1).reshape(-1, 3)
    first = (np.arange(VERTICES - 1)[:, None] * VERTICES + np.arange(VERTICES - 1)).ravel()
    faces = np.concatenate(
        [np.stack([first, first + VERTICES, first + 1], 1),
         np.stack([first + 1, first + VERTICES, first + VERTICES + 1], 1)]
    )  # fmt: skip
    return (
        torch.from_numpy(vertices).float(),
        torch.from_numpy(faces),
        colour.clip(0, 1).reshape(-1, 3).astype(np.float32),
    )


def _blots(
    draw: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64], kinds: list[tuple[int, float]]
) -> NDArray[np.float64]:
    """(H, W, 3) sums of Gaussians: (how many, how wide)."""
    out = np.zeros((*x.shape, 3))
    for count, width in kinds:
        for cx, cy in draw.uniform(-EXTENT, EXTENT, (count, 2)):
            value = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width**2))
            out += 0.35 * value[..., None] * draw.uniform(-1, 1, 3)
    return out


def cameras(seed: int = 0) -> list[Camera]:
    """Turned about random axes by up to 12 degrees, shifted by up to a tenth of the depth along each axis."""
    draw = np.random.default_rng(seed + 1)
    out = []
    for number in range(VIEWS):
        axis = draw.normal(size=3)
        pose = np.eye(4)
        turn = np.radians(draw.uniform(0, TURN_DEG))
        pose[:3, :3] = from_axis_angle(turn * axis / np.linalg.norm(axis))
        pose[:3, 3] = draw.uniform(-SHIFT, SHIFT, 3)
        focal = FOCAL * SIDE
        out.append(Camera(f"photo_{number:02d}.png", SIDE, SIDE, focal, focal, SIDE / 2, SIDE / 2, pose))
    return out


def write_scene(folder: Path, seed: int = 0) -> None:
    """Photos of SIDE pixels, each the mean of 2 x 2 samples, and their cameras."""
    folder.mkdir(parents=True, exist_ok=True)
    vertices, faces, colours = relief(seed)
    table = torch.from_numpy(colours)
    for camera in cameras(seed):
        raster = rasterize(vertices, faces, camera.resized(2 * SIDE, 2 * SIDE))
        rgb = (table[faces[raster.face.long()]] * raster.barycentric[..., None]).sum(2)
        assert bool((raster.face >= 0).all()), "the relief ends inside a photo"
        rgb = rgb.view(SIDE, 2, SIDE, 2, 3).mean((1, 3))
        Image.fromarray((rgb.numpy() * 255 + 0.5).astype(np.uint8)).save(folder / camera.name)
    nerf_json.write(folder / "transforms.json", cameras(seed), {})


def seen_share(held_out: tuple[int, ...], seed: int = 0) -> list[float]:
    """Per photo held out the share of its pixels that lie inside some other photo."""
    vertices, faces, _ = relief(seed)
    every = cameras(seed)
    shares = []
    for row in held_out:
        raster = rasterize(vertices, faces, every[row])
        points = (vertices[faces[raster.face.long()]] * raster.barycentric[..., None]).sum(2)
        seen = np.zeros(SIDE * SIDE, bool)
        for number, camera in enumerate(every):
            pixels = camera.project(points.reshape(-1, 3).double().numpy())[0]
            seen |= (number not in held_out) & ((pixels > 0) & (pixels < SIDE)).all(1)
        shares.append(round(float(seen.mean()), 3))
    return shares


if __name__ == "__main__":
    write_scene(Path(sys.argv[1]))
