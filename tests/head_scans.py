# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos of textured head meshes (`../shared/data/heads`): drawn as training draws its heads, before a made-up background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
from maquette.core.models.eg3d.cameras import FOCAL, camera_of, intrinsics, label_of
from maquette.core.models.heads.faces import orbit_pose
from numpy.typing import NDArray
from PIL import Image

from training.heads.dataset import backgrounds
from training.heads.drawing import Floats, Layer, Paint, draw
from training.heads.looks import random_light
from training.heads.makehuman import EMPHASIS

SIDE, ZOOM = 512, 0.55
UNIT = 3.7
"""Decimetres, in which the meshes are, of one of EG3D's units."""
EYES = (0.0, 0.02, 0.18)
"""Where EG3D's frame has the middle between the eyes, roughly: the face finder does the rest."""


def scan_photo(path: Path, out: Path, yaw: float, seed: int = 1) -> Path:
    """Draw a mesh into `out`.

    Args:
        path: a glb in decimetres, y up, the face towards +z.
        out: folder.
        yaw: of the camera around the head in degrees; positive sees the head's left side.
        seed: of light and background.
    """
    scene = trimesh.load_scene(path)
    middle = _between_eyes(scene)
    layers = [_layer(mesh, middle) for mesh in scene.geometry.values()]
    camera = camera_of(label_of(orbit_pose(yaw, 4.0), intrinsics(FOCAL * ZOOM)), SIDE)
    drawing = draw(layers, camera, random_light(np.random.default_rng(seed)), EMPHASIS)
    behind = backgrounds(1, torch.Generator().manual_seed(seed))
    behind = F.interpolate(behind, size=(SIDE, SIDE), mode="bilinear")[0].permute(1, 2, 0).numpy()
    alpha = drawing.rgba[..., 3:].astype(np.float32) / 255
    rgb = drawing.rgba[..., :3] * alpha + 255 * behind * (1 - alpha)
    made = out / f"{path.stem}_{yaw:+.0f}.png"
    Image.fromarray(rgb.astype(np.uint8)).save(made)
    return made


def _between_eyes(scene: trimesh.Scene) -> NDArray[np.floating]:
    """Of meshes without eyes of their own: half-way up the head, 15 mm behind the tip of the nose and lids."""
    if "eyes" in scene.geometry:
        return np.asarray(scene.geometry["eyes"].bounds.mean(0))
    low, high = scene.bounds
    return np.array([(low[0] + high[0]) / 2, high[1] - 1.15, high[2] - 0.35])


def _layer(mesh: trimesh.Trimesh, middle: NDArray[np.floating]) -> Layer:
    texture = mesh.visual.material.baseColorTexture
    vertices = (np.asarray(mesh.vertices) - middle) / UNIT + EYES
    faces = np.asarray(mesh.faces, np.int64)
    uvs = np.asarray(mesh.visual.uv, np.float32)[faces]
    opaque = texture is None or texture.mode != "RGBA"  # corneas and hair are not
    return Layer(vertices.astype(np.float32), faces, uvs, np.ones(len(faces), np.uint8), _paint(mesh), opaque)


def _paint(mesh: trimesh.Trimesh) -> Paint:
    """The texture, bilinear, or the one colour of a mesh without."""
    material = mesh.visual.material
    if material.baseColorTexture is None:
        colour = np.asarray(material.baseColorFactor, np.float32) / 255
        return lambda face, weights, uv: np.tile(colour, (len(face), 1))
    plane = torch.from_numpy(np.asarray(material.baseColorTexture.convert("RGBA"), np.float32) / 255)
    plane = plane.permute(2, 0, 1)[None]

    def paint(face: NDArray[np.int64], weights: Floats, uv: Floats) -> Floats:
        grid = torch.from_numpy(np.stack([uv[:, 0], 1 - uv[:, 1]], 1)).float()[None, None] * 2 - 1
        found = F.grid_sample(plane, grid, padding_mode="border", align_corners=False)
        return np.ascontiguousarray(found[0, :, 0].T.numpy())

    return paint
