# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometry to match a photo with, from a file: what Blender wrote, or any model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from .. import scene_geometry
from ..errors import InputError
from ..results import read_mesh
from ..scene_geometry import SceneGeometry

Floats = NDArray[np.float64]
CREASE_COSINE = 0.7
"""Faces that meet at more than 45 degrees are shaded apart where a file has no normals of its own."""


def read_scene(path: Path, folder: Path) -> SceneGeometry:
    """Read geometry.npz as Blender writes it, a Result's mesh.npz, or a model file (glTF is turned Z up).

    Args:
        path: the file.
        folder: existing; receives textures that are inside the file.

    Raises:
        InputError: MESH_UNREADABLE, EMPTY_GEOMETRY.
    """
    if path.name == scene_geometry.FILE:
        return scene_geometry.read(path)
    try:
        if path.suffix == ".npz":
            mesh = read_mesh(path)
            return SceneGeometry(mesh.vertices, mesh.faces)
        loaded: Any = trimesh.load(path, process=False)
        parts = loaded.dump() if isinstance(loaded, trimesh.Scene) else [loaded]
        parts = [part for part in parts if len(getattr(part, "faces", ()))]
        if not parts:
            raise ValueError("no faces")
        return _joined(parts, path, folder)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, NotImplementedError) as error:
        raise InputError(
            "MESH_UNREADABLE",
            f"{path.name} holds no mesh of triangles that can be read.",
            "Export it as PLY, OBJ or GLB.",
        ) from error


def _joined(parts: list[Any], path: Path, folder: Path) -> SceneGeometry:
    vertices, faces, normals, colours, uvs, owners = [], [], [], [], [], []
    textures: list[Path] = []
    offset = 0
    for part in parts:
        corners = np.asarray(part.faces)
        material = getattr(part.visual, "material", None)
        uv, image = getattr(part.visual, "uv", None), getattr(material, "baseColorTexture", None)
        image = image if image is not None else getattr(material, "image", None)
        number = -1
        if uv is not None and image is not None:
            number = len(textures)
            textures.append(folder / f"texture_{number}.png")
            image.convert("RGB").save(textures[-1])
        vertices.append(np.asarray(part.vertices))
        faces.append(corners + offset)
        normals.append(_corner_normals(np.asarray(part.vertices, np.float64), corners))
        colours.append(_colours(part, corners, material))
        uvs.append(np.zeros((len(corners), 3, 2)) if uv is None else np.asarray(uv)[corners])
        owners.append(np.full(len(corners), number))
        offset += len(part.vertices)
    upright = path.suffix.lower() in (".glb", ".gltf")
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]) if upright else np.eye(3)
    return SceneGeometry(
        (np.concatenate(vertices) @ turn.T).astype(np.float32),
        np.concatenate(faces).astype(np.int32),
        (np.concatenate(normals) @ turn.T).astype(np.float32),
        np.concatenate(colours),
        np.concatenate(uvs).astype(np.float32),
        np.concatenate(owners).astype(np.int16),
        textures,
    )


def _colours(part: Any, corners: NDArray[Any], material: Any) -> NDArray[np.uint8]:
    """(F, 3, 3) uint8 sRGB: of vertices where the file has them, else of the material."""
    kind = getattr(part.visual, "kind", None)
    if kind == "vertex":
        return np.asarray(part.visual.vertex_colors, np.uint8)[corners][..., :3]
    if kind == "face":
        return np.repeat(np.asarray(part.visual.face_colors, np.uint8)[:, None, :3], 3, 1)
    factor = getattr(material, "baseColorFactor", None)
    if factor is None:
        return np.full((len(corners), 3, 3), 153, np.uint8)
    linear = np.asarray(factor[:3], np.float64) / (255.0 if np.max(factor) > 1 else 1.0)
    return np.broadcast_to((linear ** (1 / 2.2) * 255).astype(np.uint8), (len(corners), 3, 3))


def _corner_normals(vertices: Floats, corners: NDArray[Any]) -> Floats:
    """(F, 3, 3): smooth over seams, sharp at creases."""
    point = np.unique(vertices.round(6), axis=0, return_inverse=True)[1].reshape(-1)[corners]
    a, b, c = (vertices[corners[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)
    total = np.zeros((int(point.max()) + 1, 3))
    np.add.at(total, point.ravel(), np.repeat(area, 3, 0))
    total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    flat = (area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-12))[:, None]
    smooth = total[point]
    sharp = (smooth * flat).sum(2, keepdims=True) < CREASE_COSINE
    return np.asarray(np.where(sharp, flat, smooth))
