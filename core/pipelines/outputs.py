# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be written beside a Result: a GLB, and a picture that puts photos beside renders from the same cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from PIL import Image

from ..render.shade import render_textured
from ..results import Result, read_mesh, read_result
from ..types import Camera, Mesh

CELL = 384
"""Height of one picture of the preview, pixels."""


def write_outputs(folder: Path, glb: str, preview: str) -> None:
    """Write what was asked for; an empty name means not wanted.

    Raises:
        InputError: RESULT_UNREADABLE.
    """
    result = read_result(folder)
    if glb and result.objects:
        write_glb(folder, result, Path(glb))
    if preview and result.objects:
        write_preview(folder, result, Path(preview))


def write_glb(folder: Path, result: Result, path: Path) -> None:
    """The first object as binary glTF: Y up, metres, base colour texture, no light baked beyond the photos' own."""
    item = result.objects[0]
    mesh = read_mesh(folder / item.mesh)
    corners = mesh.faces.reshape(-1)
    assert mesh.uvs is not None
    # glTF wants one UV per vertex: split at the seams only.
    keyed = np.concatenate(
        [corners[:, None].astype(np.float64), mesh.uvs.reshape(-1, 2).astype(np.float64)], 1
    )
    unique, inverse = np.unique(keyed, axis=0, return_inverse=True)
    world = (
        mesh.vertices.astype(np.float64) @ result.world_from_result[:3, :3].T
        + result.world_from_result[:3, 3]
    )
    placed = world[unique[:, 0].astype(np.int64)]
    placed = np.stack([placed[:, 0], placed[:, 2], -placed[:, 1]], 1)  # Z up -> Y up
    with Image.open(folder / item.textures["base_color"]) as image:
        picture = image.convert("RGB")
    material = trimesh.visual.material.PBRMaterial(
        name=item.name, baseColorTexture=picture, metallicFactor=0.0, roughnessFactor=1.0
    )
    visual = trimesh.visual.TextureVisuals(uv=unique[:, 1:], material=material)
    out = trimesh.Trimesh(placed, inverse.reshape(-1, 3), visual=visual, process=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    out.export(path, file_type="glb")


def write_preview(folder: Path, result: Result, path: Path, count: int = 4) -> None:
    """Photos above renders of the mesh through the same cameras, `count` of them spread over the set."""
    item = result.objects[0]
    mesh = read_mesh(folder / item.mesh)
    with Image.open(folder / item.textures["base_color"]) as image:
        texture = torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255.0)
    shown = [camera for camera in result.cameras if camera.view and camera.image]
    chosen = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, count).round().astype(int))]
    columns = []
    for camera in chosen:
        assert camera.view is not None and camera.image is not None
        width = max(1, round(CELL * camera.view.width / camera.view.height))
        with Image.open(folder / camera.image) as image:
            photo = np.asarray(image.convert("RGB").resize((width, CELL), Image.Resampling.LANCZOS))
        columns.append(np.concatenate([photo, _render(mesh, texture, camera.view.resized(width, CELL))], 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(columns, 1)).save(path)


def _render(mesh: Mesh, texture: torch.Tensor, camera: Camera) -> NDArray[np.uint8]:
    rgb, alpha = render_textured(mesh, texture, camera)
    backdrop = torch.full_like(rgb, 0.22)
    picture = rgb * alpha[..., None] + backdrop * (1 - alpha[..., None])
    return (picture.clamp(0, 1).numpy() * 255 + 0.5).astype(np.uint8)
