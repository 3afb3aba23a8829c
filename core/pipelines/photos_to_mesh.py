# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `mesh`, method `photos`: photos -> cameras -> masks -> radiance field -> textured mesh and matched cameras."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..fields.cut import CutField
from ..fields.fused import FusedField
from ..fit.bounds import box_around, focus_box, hull_box, region_cube, scene_box
from ..fit.fusion import fuse
from ..fit.occupancy import cell_centres, grid_shape, visual_hull
from ..fit.radiance import FitSettings, fit_radiance
from ..images.load import distinct_photos
from ..images.mask_files import read_masks, save_masks
from ..images.masks import find_masks
from ..images.region import ObjectRegion
from ..images.undistort import undistort
from ..jobs import cache
from ..jobs.request import Request
from ..poses.frame import common_point, find_ground, orient
from ..poses.given import given_cameras, is_result
from ..poses.stored import load_estimate, save_estimate
from ..poses.structure_from_motion import estimate
from ..progress import Progress
from ..results import Result
from ..settings import MeshSettings
from ..types import Photo, PoseEstimate, View
from .field_to_result import PLAN as SURFACE_PLAN
from .field_to_result import RESOLUTION, add_to_result, pick_device, surface_field, texture_mesh
from .live_preview import LivePreview
from .poses import report_cameras

log = logging.getLogger(__name__)

WORK_SIDE = {"draft": 400, "normal": 640, "high": 1024}
"""Long side of the working pictures, pixels."""
FIT_POINTS = {"draft": 0.5e8, "normal": 3.0e8, "high": 2.5e9}
"""Samples spent on the field; two processor cores do two to five million a second."""
FIELD_SECONDS = {"draft": (11.0, 6.0), "normal": (57.0, 16.0), "high": (450.0, 50.0)}
"""What fit and fusion take on two processor cores beside the other stages: shares of the plan, not of a clock."""
MASKS_PER_MISS = 20
"""Of so many masks that were found, one may err at a place, our choice."""
POSES_VERSION, FIELD_VERSION = 2, 7


@dataclass
class Scene:
    """What the fit works on."""

    views: list[View]
    box: Tensor
    """(2, 3) float32, result's frame."""
    floor: NDArray[np.float64] | None
    """(4,) plane that the object stands on."""
    region: NDArray[np.float64] | None = None
    """(4, 4) the artist's box (`region_cube`); None: all is kept."""
    misses: int = 0
    """Photos whose masks may err at a place."""


def run(request: Request, folder: Path, progress: Progress, photos: list[Photo]) -> Result:
    """Photos to a textured mesh.

    Args:
        request: settings are those of `MeshSettings`; its inputs are `photos`.
        folder: receives the files of the Result.
        progress: plan and stages are set here.
        photos: two or more.

    Raises:
        InputError, MissingError, FailedError, Cancelled: see the stages.
    """
    settings = MeshSettings.from_json(request.settings)
    device = pick_device(settings.device)
    progress.set_plan(_plan(settings.quality))
    with progress.stage("load"):
        photos = distinct_photos(photos, progress)
        masks = read_masks(Path(settings.masks), photos, progress) if settings.masks else None
    with progress.stage("cameras"):
        found = _find_cameras(photos, masks, settings, folder, progress)
    if len(found.cameras) < 2:
        raise InputError(
            "TOO_FEW_CAMERAS",
            "Fewer than two photos have a usable camera.",
            "Add photos that overlap with the others.",
        )
    result = report_cameras(photos, found, folder, progress, request.settings)
    with progress.stage("masks"):
        scene = _find_object(photos, found, masks, settings, progress)
        save_masks(folder / "masks", scene.views, found.cameras)
    field = _fit(scene, settings, device, folder, progress)
    field.save(folder / "field.safetensors")
    kept = field if scene.region is None else CutField(field, scene.region)
    mesh = surface_field(kept, settings, progress)
    made = texture_mesh(mesh, field, folder, result.cameras, settings, progress)
    result.name, result.method, result.device = "Photos", "photos", device.type
    result.field_file = "field.safetensors"
    if found.world is None:
        ground = find_ground(found.cameras, found.cloud, mesh.vertices.astype(np.float64))
        result.world_from_result = orient(
            found.cameras, found.cloud, mesh.vertices.astype(np.float64), settings.height, ground
        )
    add_to_result(result, made)
    return result


def _plan(quality: str) -> dict[str, float]:
    """Weights of the stages: seconds measured on two cores with 24 photos."""
    fit, fusion = FIELD_SECONDS[quality]
    before = {"load": 1.0, "cameras": 22.0, "views": 2.0, "masks": 10.0}
    return {**before, "field": fit, "fusion": fusion, **SURFACE_PLAN}


def _find_cameras(
    photos: list[Photo],
    masks: dict[str, NDArray[np.float32]] | None,
    settings: MeshSettings,
    folder: Path,
    progress: Progress,
) -> PoseEstimate:
    if settings.cameras:
        return given_cameras(Path(settings.cameras), photos)
    given = [masks[name].tobytes() for name in sorted(masks)] if masks else []
    key = cache.key(
        "cameras",
        POSES_VERSION,
        {"quality": settings.quality, "seed": settings.seed},
        [*(photo.path for photo in photos), *given],
    )
    stored = cache.folder("cameras", key)
    if stored is not None:
        progress.reused("cameras")
        return load_estimate(stored)
    found = estimate(photos, masks, progress, folder, settings.quality, settings.seed)
    with cache.store("cameras", key) as new:
        save_estimate(new, found)
    return found


def _find_object(
    photos: list[Photo],
    found: PoseEstimate,
    masks: dict[str, NDArray[np.float32]] | None,
    settings: MeshSettings,
    progress: Progress,
) -> Scene:
    """Undistorted working pictures with masks, and the box that holds the object."""
    by_name = {photo.name: photo for photo in photos}
    side = WORK_SIDE[settings.quality]
    views = [undistort(by_name[c.name], c, side, (masks or {}).get(c.name)) for c in found.cameras]
    region: ObjectRegion | None = None
    misses = 0
    if settings.mask_mode == "none":
        for view in views:
            view.mask = None
    elif settings.mask_mode == "auto" and any(view.mask is None for view in views):
        automatic, region = find_masks(views, found.cloud, progress)
        misses = len(views) // MASKS_PER_MISS
        if region.whole_scene:
            automatic = [None for _ in views]  # type: ignore[misc]
        for view, mask in zip(views, automatic, strict=True):
            view.mask = view.mask if view.mask is not None else mask
    cut = None
    if settings.region:
        world = orient(found.cameras, found.cloud) if found.world is None else found.world
        cut = region_cube(settings.region, world)
    if cut is not None and all(view.mask is None for view in views):
        start = box_around(cut)  # masked photos show what will be cut off too: it is fitted with the rest
    elif region is not None:
        middle, half = region.box.mean(0), 0.75 * (region.box[1] - region.box[0])
        start = np.stack([middle - half, middle + half])
    elif any(view.mask is not None for view in views) or len(found.cloud.points) < 10:
        start = focus_box(views, common_point(found.cameras))
    else:
        start = scene_box(found.cloud)
    floor = region.plane if region is not None and not region.whole_scene else None
    if all(view.mask is None for view in views):
        return Scene(views, torch.tensor(start, dtype=torch.float32), None, region=cut)
    return Scene(views, hull_box(views, start, floor, misses), floor, cut, misses)


def _fit(
    scene: Scene, settings: MeshSettings, device: torch.device, folder: Path, progress: Progress
) -> FusedField:
    """Stages `field` and `fusion`, kept in the cache by their input."""
    resolution = RESOLUTION[settings.quality]
    fit = FitSettings(
        resolution=resolution,
        points=FIT_POINTS[settings.quality],
        exposure=not settings.cameras or is_result(Path(settings.cameras)),
        seed=settings.seed,
    )
    key = cache.key(
        "field",
        FIELD_VERSION,
        {"fit": vars(fit), "device": device.type, "box": scene.box.tolist(), "floor": scene.floor},
        [part for view in scene.views for part in _fingerprint(view)],
    )
    stored = cache.folder("field", key)
    if stored is not None:
        progress.reused("field")
        return FusedField.load(stored / "field.safetensors").to(device)
    shape = grid_shape(scene.box, resolution // 2)
    occupied = visual_hull(scene.views, scene.box, shape, misses=scene.misses)
    floor = None if scene.floor is None else torch.tensor(scene.floor, dtype=torch.float32)
    if floor is not None:
        height = cell_centres(scene.box, shape) @ floor[:3] + floor[3]
        occupied &= (height > -1.0 * float((scene.box[1] - scene.box[0]).max()) / resolution).reshape(shape)
    preview, camera = LivePreview(folder, progress), scene.views[0].camera
    with progress.stage("field"):
        radiance = fit_radiance(
            scene.views,
            scene.box,
            occupied,
            fit,
            progress,
            device,
            lambda forming: preview.field(forming, camera),
        )
    with progress.stage("fusion"):
        field = fuse(radiance, scene.views, progress, None if floor is None else floor.to(device))
    with cache.store("field", key) as new:
        field.save(new / "field.safetensors")
    return field


def _fingerprint(view: View) -> list[bytes]:
    camera = view.camera
    numbers = np.array([camera.fx, camera.fy, camera.cx, camera.cy, *camera.cam_to_world.flatten()])
    return [view.rgb.tobytes(), b"" if view.mask is None else view.mask.tobytes(), numbers.tobytes()]
