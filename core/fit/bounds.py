# SPDX-License-Identifier: GPL-3.0-or-later
"""The box to fit in: where the masks' visual hull lies, or what a whole scene's sparse points span."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..types import SparseCloud, View
from .occupancy import cell_centres, grid_shape, visual_hull

Floats = NDArray[np.float64]


def hull_box(views: list[View], start: Floats, floor: Floats | None = None, misses: int = 0) -> Tensor:
    """Tight box (2, 3) float32 around the visual hull inside the box `start` (2, 3), found in three zooms.

    floor: (4,) plane; what lies below it by more than a hundredth of the box does not count. misses: see `visual_hull`.

    Raises:
        InputError: MASKS_DISAGREE when the masks have no place in common.
    """
    box = torch.tensor(start, dtype=torch.float32)
    for _ in range(3):
        shape = grid_shape(box, 64)
        hull = visual_hull(views, box, shape, misses=misses)
        if floor is not None:
            plane = torch.tensor(floor, dtype=torch.float32)
            height = cell_centres(box, shape) @ plane[:3] + plane[3]
            hull &= (height > -0.01 * float((box[1] - box[0]).max())).reshape(shape)
        found = hull.nonzero()
        if len(found) == 0:
            raise InputError(
                "MASKS_DISAGREE",
                "No place in space is inside the masks of all photos.",
                "Check the masks and the cameras, or keep the whole scene.",
            )
        cell = float((box[1] - box[0]).max()) / max(shape)
        low, high = found.amin(0), found.amax(0) + 1
        margin = 2.0 * cell
        box = torch.stack([box[0] + low * cell - margin, box[0] + high * cell + margin])
    return box


def scene_box(cloud: SparseCloud) -> Floats:
    """(2, 3) box of a whole scene: the middle 96 % of the sparse points along each axis, and a tenth more."""
    low, high = np.percentile(cloud.points, [2, 98], axis=0)
    margin = 0.1 * (high - low).max()
    return np.stack([low - margin, high + margin])


def focus_box(views: list[View], centre: Floats) -> Floats:
    """(2, 3) cube around `centre` that holds all that the median picture can show there."""
    distance = float(np.median([np.linalg.norm(view.camera.centre - centre) for view in views]))
    wide = max(max(view.camera.width, view.camera.height) / view.camera.fx for view in views)
    half = 0.75 * distance * min(wide, 1.2)
    return np.stack([centre - half, centre + half])


def region_cube(region: tuple[float, ...], world_from_result: Floats) -> Floats:
    """The artist's box (`MeshSettings.region`, in the world) as what takes the cube from -0.5 to 0.5 there: (4, 4), result's
    frame.
    """
    if len(region) == 16:
        cube = np.array(region, np.float64).reshape(4, 4)
    else:
        low, high = np.array(region[:3]), np.array(region[3:])
        cube = np.diag([*(high - low), 1.0])
        cube[:3, 3] = (low + high) / 2
    return np.asarray(np.linalg.inv(world_from_result) @ cube)


def box_around(cube: Floats) -> Floats:
    """(2, 3) smallest box along the axes around what (4, 4) `cube` makes of the cube from -0.5 to 0.5."""
    half = 0.5 * np.abs(cube[:3, :3]).sum(1)
    return np.stack([cube[:3, 3] - half, cube[:3, 3] + half])
