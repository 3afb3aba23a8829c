# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `align`: the camera of one photo, solved against geometry that is there already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..cameras import nerf_json
from ..errors import InputError
from ..images.load import open_photos, read_pixels
from ..images.mask_files import read_masks
from ..images.undistort import save_view_picture
from ..jobs.request import Request
from ..poses.alignment import AlignmentSettings, align_camera
from ..poses.alignment_evidence import gather_evidence
from ..poses.alignment_model import Model
from ..poses.given import given_cameras
from ..progress import Progress
from ..results import Result, SceneCamera, camera_from_json
from ..scene_geometry import SceneGeometry
from ..types import GOOD, Camera, Photo
from .scene_file import read_scene

PLAN = {"load": 2.0, "camera": 12.0, "view": 1.0}
WORKING_SIDE = 800
"""Long side, pixels, of the photo that is compared. Our choice: finer outlines are those of the geometry's faces."""
EXIF_SIGMA = 0.03
"""Of the logarithm of a focal length out of EXIF: whole millimetres, and lenses breathe."""
KEPT_SIGMA = 0.002
DEFAULT_FOV_DEG = 40.0
"""Across the longer side where nothing at all is known."""


def run(request: Request, folder: Path, progress: Progress) -> Result:
    """Solve one camera.

    Args:
        request: one input, the photo; settings geometry (file), start (a camera as in scene.json) or cameras (file or folder;
            its camera of the photo, else its first), within_deg, lens (solve | keep), masks, mask_mode.
        folder: receives transforms.json and views/.
        progress: plan and stages are set here.

    Raises:
        InputError, FailedError, Cancelled: see `align_camera`, `read_scene`, `given_cameras`.
    """
    settings = request.settings
    progress.set_plan(PLAN)
    with progress.stage("load"):
        photos = open_photos([Path(path) for path in request.inputs], progress)
        if len(photos) != 1:
            raise InputError(
                "ONE_PICTURE",
                f"{len(photos)} pictures are given; one camera is aligned to one.",
                "Name one photo.",
            )
        photo = photos[0]
        geometry = read_scene(Path(settings["geometry"]), folder)
        start, known = _start(settings, photo, geometry)
        rgb, alpha = read_pixels(photo, WORKING_SIDE)
        masks = read_masks(Path(settings["masks"]), photos, progress) if settings.get("masks") else {}
        mode = str(settings.get("mask_mode") or "auto")
        evidence = gather_evidence(photo.name, rgb, alpha, masks.get(photo.name), progress, mode)
    with progress.stage("camera"):
        found = align_camera(geometry, evidence, start, known, progress)
    camera = found.camera
    with progress.stage("view"):
        (folder / "views").mkdir(exist_ok=True)
        path, view = save_view_picture(folder / "views" / Path(photo.name).stem, photo, camera)
        nerf_json.write(folder / "transforms.json", [camera], {})
    for texture in geometry.textures:
        if texture.parent == folder:
            texture.unlink()
    middle = 0.5 * (geometry.vertices.min(0) + geometry.vertices.max(0))
    metrics: dict[str, Any] = {**found.metrics, "distance": float(np.linalg.norm(camera.centre - middle))}
    if camera.grade != GOOD:
        metrics["partly"] = [f"The camera is {camera.grade}: {camera.reason}."]
    item = SceneCamera(camera, view, path.relative_to(folder).as_posix(), str(photo.path), found.metrics)
    kept = {name: value for name, value in settings.items() if name != "start"}
    return Result(
        "Alignment", "align", cameras=[item], active_camera=photo.name, settings=kept, metrics=metrics
    )


def _start(
    settings: dict[str, Any], photo: Photo, geometry: SceneGeometry
) -> tuple[Camera, AlignmentSettings]:
    """The first guess in pixels of the photo, and what is known beside it."""
    within = float(settings.get("within_deg") or 80.0)
    given = None
    if settings.get("start"):
        given = camera_from_json(settings["start"])
    elif settings.get("cameras"):
        cameras = given_cameras(Path(settings["cameras"]), [photo]).cameras
        given = cameras[0]
    longer = max(photo.width, photo.height)
    if given is None:
        focal, within = 0.5 * longer / np.tan(np.radians(DEFAULT_FOV_DEG) / 2), 180.0
        pose = np.eye(4)
        pose[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
        model = Model(geometry)
        pose[:3, 3] = model.anchor - [0, 4.0 * model.radius, 0]
        given = Camera(photo.name, photo.width, photo.height, focal, focal, 0.0, 0.0, pose)
    focal = given.fx * longer / max(given.width, given.height)
    start = replace(
        given, name=photo.name, width=photo.width, height=photo.height, fx=focal, fy=focal,
        cx=photo.width / 2, cy=photo.height / 2, distortion=(0.0, 0.0, 0.0, 0.0), grade=GOOD, reason="",
    )  # fmt: skip
    if settings.get("lens") == "keep":
        return start, AlignmentSettings(within, focal, KEPT_SIGMA)
    if photo.focal_px:
        return start, AlignmentSettings(within, photo.focal_px, EXIF_SIGMA)
    return start, AlignmentSettings(within)
