# SPDX-License-Identifier: GPL-3.0-or-later
"""The artist's choices for a mesh -> `core.settings.MeshSettings`, region box included."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ..core.errors import InputError
from ..core.results import read_result
from ..core.settings import MeshSettings
from .settings import result_info


def region_of(box: bpy.types.Object) -> Matrix:
    """What takes the cube from -0.5 to 0.5 to an empty cube (display size included) or to any object's bounds, in the world."""
    if box.type == "EMPTY":
        low, high = Vector([-box.empty_display_size] * 3), Vector([box.empty_display_size] * 3)
    else:
        corners = [Vector(corner) for corner in box.bound_box]
        low, high = (Vector([f(c[axis] for c in corners) for axis in range(3)]) for f in (min, max))
    return box.matrix_world @ Matrix.Translation((low + high) / 2) @ Matrix.Diagonal((*(high - low), 1.0))


def region_in_result(box: bpy.types.Object, root: bpy.types.Object) -> list[float]:
    """A box in the scene as the 16 numbers of a region in the world of the result that `root` stands for, wherever that
    was moved to.

    Raises:
        InputError: RESULT_UNREADABLE.
    """
    result = read_result(Path(result_info(root).folder))
    placed = Matrix(result.world_from_result.tolist()) @ root.matrix_world.inverted() @ region_of(box)
    numbers: list[float] = np.array(placed, np.float64).ravel().tolist()
    return numbers


def _region(options: Any, photos: Iterable[Path]) -> tuple[tuple[float, ...], str]:
    """(region, cameras) of the settings. A box that hangs on a result's root is meant in that result's world, which only
    its own cameras bring about again.
    """
    box = options.region_box if options.use_region else None
    if box is None:
        return (), options.cameras
    placed, cameras, root = region_of(box), options.cameras, box.parent
    if root is not None and result_info(root).schema:
        folder = Path(result_info(root).folder)
        result = read_result(folder)
        known = {name for item in result.cameras for name in (item.source.name, Path(item.photo_path).name)}
        strangers = [path.name for path in photos if path.name not in known | set(result.failed)]
        if strangers:
            raise InputError(
                "REGION_OTHER_PHOTOS",
                f"{strangers[0]} is not among the photos of {root.name}, which the region box belongs to.",
                "Make a result of these photos without the box first, then draw a new box around it.",
            )
        placed = Matrix(result.world_from_result.tolist()) @ root.matrix_world.inverted() @ placed
        cameras = cameras or str(folder)
    return tuple(np.array(placed, np.float64).ravel().tolist()), cameras


def mesh_settings(options: Any, photos: Iterable[Path] = ()) -> MeshSettings:
    """The dataclass that goes into request.json.

    Raises:
        InputError: BAD_SETTING, e.g. for a flat region box; RESULT_UNREADABLE and REGION_OTHER_PHOTOS for one that belongs to
            a result that is gone, or to other photos.
    """
    region, cameras = _region(options, photos)
    return MeshSettings(
        method=options.method,
        model=options.model,
        quality=options.quality,
        device=options.device,
        seed=options.seed,
        cameras=bpy.path.abspath(cameras),
        masks=bpy.path.abspath(options.masks),
        matting=bpy.path.abspath(options.matting),
        mask_mode=options.mask_mode,
        region=region,
        texture_size=options.texture_size,
        face_budget=options.face_budget,
        resolution=options.resolution,
        height=options.height,
    )
