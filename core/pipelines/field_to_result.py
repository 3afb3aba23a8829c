# SPDX-License-Identifier: GPL-3.0-or-later
"""The second half of every mesh: field -> surface -> UVs -> texture -> files of a Result."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..cameras.photo_frame import to_view
from ..errors import FailedError
from ..fields.depth_layers import DepthLayers
from ..fields.field import Field
from ..fields.lattice_colours import LatticeColours
from ..fields.triplane import TriplaneField
from ..progress import Progress
from ..results import Result, SceneCamera, SceneObject, write_mesh
from ..settings import MeshSettings
from ..surface.bake import BakeSettings, bake_texture
from ..surface.clean import CleanSettings, clean_mesh
from ..surface.extract import ExtractSettings, extract_surface
from ..surface.match import match_view
from ..surface.report import mesh_report
from ..surface.uv import UvSettings, unwrap
from ..types import Mesh, View
from .pictures import read_pictures

log = logging.getLogger(__name__)

RESOLUTION = {"draft": 128, "normal": 256, "high": 384}
FACE_BUDGET = {"draft": 30_000, "normal": 120_000, "high": 400_000}
BAKE_BYTES = 1 << 30
"""Pictures for the texture are scaled down together when they would take more than this."""
CELLS_PER_TEXEL = 5
"""Cells of the mesh per texel of a tri-plane at most, unless the artist asks for more: finer ones only follow their creases."""
COLOUR_CELLS = 96
"""Cells of the lattice from which a tri-plane's texture takes the colours of unseen places, at least."""
PLAN = {"surface": 3.0, "uv": 1.5, "texture": 6.0, "match": 2.0}


@dataclass
class Surfaced:
    """What the second half made."""

    mesh: Mesh
    object: SceneObject
    metrics: dict[str, Any]
    per_camera: dict[str, dict[str, float]]


def usual_resolution(field: Field, quality: str) -> int:
    """Cells along the box's longest side when the artist does not say."""
    usual = RESOLUTION[quality]
    if isinstance(field, TriplaneField):
        return min(usual, CELLS_PER_TEXEL * field.planes.shape[-1])
    return min(usual, field.layers.shape[-1]) if isinstance(field, DepthLayers) else usual


def texture_colours(field: Field) -> Field:
    """The field as a texture asks it: a tri-plane's colours through a lattice, each of whose points is computed once."""
    if not isinstance(field, TriplaneField):
        return field
    return LatticeColours(field, max(COLOUR_CELLS, 2 * field.planes.shape[-1]))


def surface_field(
    field: Field,
    settings: MeshSettings,
    progress: Progress,
    smallest_part: float = CleanSettings.smallest_part,
) -> Mesh:
    """Stage `surface`: extraction, cleaning, face budget.

    Args:
        field: what to mesh.
        settings: how finely.
        progress: the stage is set here.
        smallest_part: see `CleanSettings`.

    Raises:
        FailedError: NO_SURFACE.
    """
    with progress.stage("surface"):
        resolution = settings.resolution or RESOLUTION[settings.quality]
        mesh = extract_surface(field, ExtractSettings(resolution=resolution), progress)
        budget = settings.face_budget or FACE_BUDGET[settings.quality]
        cleaning = CleanSettings(face_budget=budget, smooth_steps=3, smallest_part=smallest_part)
        mesh = clean_mesh(mesh, cleaning, progress)
        if len(mesh.faces) == 0:
            raise FailedError(
                "NO_SURFACE",
                "The reconstruction holds no surface.",
                "Check the masks, the region box and the cameras.",
            )
    return mesh


def texture_mesh(
    mesh: Mesh,
    field: Field | None,
    folder: Path,
    cameras: list[SceneCamera],
    settings: MeshSettings,
    progress: Progress,
) -> Surfaced:
    """Stages `uv`, `texture`, `match`; writes mesh.npz and base_color.png into the Result folder.

    The texture is baked from the cameras' photos and a generator's pictures (`pictures`) where the folder has some.
    """
    with progress.stage("uv"):
        if mesh.uvs is None:
            mesh = unwrap(mesh, UvSettings(size=settings.texture_size), progress)
    views = read_views(folder, cameras)
    with progress.stage("texture"):
        settled = BakeSettings(size=settings.texture_size)
        baked = bake_texture(mesh, [*views, *read_pictures(folder)], field, settled, progress)
        texture, seen = baked.texture, baked.vertex_seen
        mesh.attributes["seen"] = np.asarray(seen, np.float32)
        write_mesh(folder / "mesh.npz", mesh)
        pixels = (texture * 255 + 0.5).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "base_color.png", compress_level=3)
    per_camera: dict[str, dict[str, float]] = {}
    with progress.stage("match"):
        for number, view in enumerate(views):
            progress.update(number / len(views))
            per_camera[view.camera.name] = match_view(mesh, texture, view)
    report = mesh_report(mesh)
    metrics = {
        name: round(float(np.mean([row[name] for row in per_camera.values() if name in row])), 4)
        for name in ("silhouette_iou", "photo_psnr")
        if any(name in row for row in per_camera.values())
    }
    item = SceneObject("Object", textures={"base_color": "base_color.png"}, report=report)
    return Surfaced(mesh, item, metrics | {"seen": round(float(np.mean(seen)), 4)}, per_camera)


def add_to_result(result: Result, made: Surfaced) -> None:
    """Enter the mesh and its measures into the result."""
    result.objects = [made.object]
    result.metrics |= made.metrics
    for camera in result.cameras:
        camera.metrics |= made.per_camera.get(camera.source.name, {})


def read_views(folder: Path, cameras: list[SceneCamera]) -> list[View]:
    """The undistorted photos of a Result folder with their masks (`masks/STEM.png`, over the photos), scaled to fit
    BAKE_BYTES together.
    """
    shown = [camera for camera in cameras if camera.view is not None and camera.image]
    pixels = sum(camera.view.width * camera.view.height for camera in shown if camera.view)
    scale = min(1.0, (BAKE_BYTES / 16 / max(1, pixels)) ** 0.5)
    views = []
    for item in shown:
        assert item.view is not None and item.image is not None
        camera = item.view
        if scale < 1.0:
            camera = camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))
        size = camera.width, camera.height
        with Image.open(folder / item.image) as image:
            rgb = _as_float(
                image.convert("RGB").resize(size, Image.Resampling.BOX) if scale < 1 else image.convert("RGB")
            )
        mask = folder / "masks" / f"{Path(item.source.name).stem}.png"
        plane = None
        if mask.is_file():
            with Image.open(mask) as image:
                plane = to_view(_as_float(image.convert("L")), item.source, camera)
        views.append(View(camera, rgb, plane))
    return views


def _as_float(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image, np.float32) / 255.0


def pick_device(name: str) -> torch.device:
    """`auto` takes CUDA, then Apple's GPU, then the processor.

    Raises:
        MissingError: NO_DEVICE when the named one is not there.
    """
    from ..errors import MissingError

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    if not present[name]:
        raise MissingError(
            "NO_DEVICE", f"The engine finds no {name} device.", "Choose another device, or auto."
        )
    return torch.device(name)


def precision(device: torch.device) -> torch.dtype:
    """Of public networks that were published for half precision: bfloat16 where the machine computes with it, else float32.

    Half the memory and, on a CPU with such instructions, half the time; pictures differ by less than 1 %
    (docs/models/triposr.md, docs/models/eg3d.md). Fields are computed in float32 either way.
    """
    if device.type == "cuda":
        there = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        there = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.bfloat16 if there else torch.float32
