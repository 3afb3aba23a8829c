# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `bake`: the photos of a result baked again, onto its own mesh or onto one that the artist has edited."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from ..errors import InputError
from ..jobs.request import Request
from ..models.stored_field import load_field
from ..progress import Progress
from ..results import Result, read_mesh, read_result
from ..settings import MeshSettings
from ..types import Mesh
from .extract import copy_result
from .field_to_result import add_to_result, pick_device, texture_colours, texture_mesh

PLAN = {"uv": 8.0, "texture": 20.0, "match": 4.0}


def run(request: Request, folder: Path, progress: Progress) -> Result:
    """Bake again. The vertices and faces of the mesh stay exactly as they are; UVs are made only where there are none.

    Args:
        request: one input, a Result folder; settings onto (npz as in a Result, or any file trimesh reads, in the world of
            the result; empty: its own mesh), texture_size, device.
        folder: receives a complete Result.
        progress: plan and stages are set here.

    Raises:
        InputError: RESULT_UNREADABLE, MESH_UNREADABLE.
    """
    settings = request.settings
    source = Path(request.inputs[0])
    result = read_result(source)
    progress.set_plan(PLAN)
    copy_result(source, folder)
    field = None
    if result.field_file:
        device = pick_device(str(settings.get("device") or "auto"))
        field = texture_colours(load_field(source / result.field_file).to(device))
    onto = str(settings.get("onto") or "")
    mesh = _read(Path(onto), result) if onto else read_mesh(source / result.objects[0].mesh)
    size = int(settings.get("texture_size") or 2048)
    made = texture_mesh(mesh, field, folder, result.cameras, MeshSettings(texture_size=size), progress)
    add_to_result(result, made)
    result.timings_s, result.warnings = {}, []
    return result


def _read(path: Path, result: Result) -> Mesh:
    """The artist's mesh in the result's frame."""
    try:
        if path.suffix == ".npz":
            return read_mesh(path)
        loaded = trimesh.load(path, force="mesh", process=False)
        vertices, faces = np.asarray(loaded.vertices, np.float64), np.asarray(loaded.faces, np.int32)
        if not len(faces):
            raise ValueError("no faces")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            "MESH_UNREADABLE",
            f"{path.name} holds no mesh of triangles that can be read.",
            "Export it as PLY, OBJ or GLB.",
        ) from error
    inverse = np.linalg.inv(result.world_from_result)
    placed = (vertices @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.float32)
    uv = getattr(loaded.visual, "uv", None)
    uvs = None if uv is None else np.asarray(uv, np.float32)[faces]
    return Mesh(placed, faces, uvs)
