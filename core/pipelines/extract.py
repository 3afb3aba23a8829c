# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `extract`: a mesh from the stored field of a result at another resolution, threshold, box or face budget."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FailedError, InputError
from ..fields.cut import CutField
from ..fields.field import Field
from ..fit.bounds import region_cube
from ..jobs.request import Request
from ..models.stored_field import load_field
from ..progress import Progress
from ..results import Result, read_result
from ..settings import MeshSettings
from ..surface.clean import CleanSettings, clean_mesh
from ..surface.extract import ExtractSettings, extract_surface
from .field_to_result import (
    FACE_BUDGET,
    PLAN,
    add_to_result,
    pick_device,
    texture_colours,
    texture_mesh,
    usual_resolution,
)


def run(request: Request, folder: Path, progress: Progress) -> Result:
    """Extract and texture again, without the photos' originals or any network.

    Args:
        request: one input, a Result folder; settings resolution, threshold (None: the field's level), face_budget,
            texture_size, region (world of the result), quality, device.
        folder: receives a complete Result; the cameras and their pictures are copied.
        progress: plan and stages are set here.

    Raises:
        InputError: RESULT_UNREADABLE, NO_FIELD, FIELD_UNREADABLE. FailedError: NO_SURFACE.
    """
    settings = request.settings
    source = Path(request.inputs[0])
    result = read_result(source)
    if not result.field_file:
        raise InputError(
            "NO_FIELD",
            f"The result {source.name} was saved without its field.",
            "Make the result again from its photos.",
        )
    progress.set_plan(PLAN)
    copy_result(source, folder)
    field = load_field(source / result.field_file).to(pick_device(str(settings.get("device") or "auto")))
    quality = str(settings.get("quality") or "normal")
    with progress.stage("surface"):
        threshold = settings.get("threshold")
        mesh = extract_surface(
            _cut(field, settings, result.world_from_result),
            ExtractSettings(
                resolution=int(settings.get("resolution") or usual_resolution(field, quality)),
                level=None if threshold is None else float(threshold),
            ),
            progress,
        )
        budget = int(settings.get("face_budget") or FACE_BUDGET[quality])
        mesh = clean_mesh(mesh, CleanSettings(face_budget=budget, smooth_steps=3), progress)
    if len(mesh.faces) == 0:
        raise FailedError(
            "NO_SURFACE",
            "No surface lies at this threshold in this box.",
            "Try another threshold or a larger box.",
        )
    size = int(settings.get("texture_size") or 2048)
    chosen = MeshSettings(texture_size=size, quality=quality)
    made = texture_mesh(mesh, texture_colours(field), folder, result.cameras, chosen, progress)
    add_to_result(result, made)
    result.settings = {**result.settings, **{k: v for k, v in settings.items() if v is not None}}
    result.timings_s, result.warnings = {}, []
    return result


def copy_result(source: Path, folder: Path) -> None:
    """The files of a result except its mesh and texture, which are to be made again."""
    shutil.copytree(
        source,
        folder,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("scene.json", "mesh.npz", "base_color.png", "*.blend*"),
    )


def _cut(field: Field, settings: dict[str, Any], world_from_result: NDArray[np.float64]) -> Field:
    """The field cut to the artist's region."""
    if not settings.get("region"):
        return field
    return CutField(field, region_cube(tuple(settings["region"]), world_from_result))
