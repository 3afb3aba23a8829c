# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `poses`: photos to cameras, a sparse cloud and undistorted pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..cameras import colmap_files, nerf_json
from ..images.load import open_photos
from ..images.mask_files import read_masks
from ..images.undistort import save_view_picture
from ..images.video import extract_frames, is_video
from ..jobs.request import Request
from ..poses.frame import orient
from ..poses.given import given_cameras
from ..poses.ladder import find_cameras
from ..progress import Progress
from ..results import Result, SceneCamera
from ..types import DOUBTFUL, Photo, PoseEstimate
from .learned_cameras import learned_estimator

PLAN = {"load": 3.0, "cameras": 80.0, "views": 17.0}
VIEW_SIDE = {"draft": 1024, "normal": 2048, "high": 4096}


def run(request: Request, folder: Path, progress: Progress) -> Result:
    """Photos to cameras.

    Args:
        request: inputs are photos or folders; settings method (auto | sfm | diffusion), cameras, masks, quality, seed.
        folder: receives transforms.json, cameras/, points.npz and views/.
        progress: plan and stages are set here.

    Raises:
        InputError, FailedError, MissingError, Cancelled: see `ladder.find_cameras` and `given_cameras`.
    """
    settings = request.settings
    quality = str(settings.get("quality") or "normal")
    progress.set_plan(PLAN)
    with progress.stage("load"):
        photos = open_photos(
            _with_frames([Path(path) for path in request.inputs], folder, progress), progress
        )
        masks = read_masks(Path(settings["masks"]), photos, progress) if settings.get("masks") else None
    with progress.stage("cameras"):
        if settings.get("cameras"):
            found = given_cameras(Path(settings["cameras"]), photos)
        elif settings.get("method") == "diffusion":
            from ..poses.diffusion.estimate import (
                estimate as learn,
            )  # brings torch, which the others do without

            found = learn(photos, masks, progress, folder, quality, int(settings.get("seed") or 0))
        else:
            hint = given_cameras(Path(settings["hint"]), photos).cameras if settings.get("hint") else []
            learned = learned_estimator(str(settings.get("device") or "auto"))
            seed = int(settings.get("seed") or 0)
            found = find_cameras(photos, masks, progress, folder, quality, seed, hint, learned)
    result = report_cameras(photos, found, folder, progress, settings)
    if request.out:  # frames of a video move with the result's folder
        result.cameras = [
            replace(camera, photo_path=camera.photo_path.replace(str(folder), request.out))
            for camera in result.cameras
        ]
    return result


def _with_frames(paths: list[Path], folder: Path, progress: Progress) -> list[Path]:
    """Videos become frames under `folder/frames/`."""
    out: list[Path] = []
    for path in paths:
        if path.is_file() and is_video(path):
            out += extract_frames(path, folder / "frames" / path.stem, progress)
        else:
            out.append(path)
    return out


def report_cameras(
    photos: list[Photo], found: PoseEstimate, folder: Path, progress: Progress, settings: dict[str, Any]
) -> Result:
    """Write everything a result says about cameras and return it; stage `views`."""
    write_cameras(folder, found)
    for text in found.advice:
        progress.warning(text)
    by_name = {photo.name: photo for photo in photos}
    scene_cameras = []
    (folder / "views").mkdir(exist_ok=True)
    with progress.stage("views"):
        for number, camera in enumerate(found.cameras):
            progress.update(number / len(found.cameras))
            photo = by_name[camera.name]
            side = VIEW_SIDE[str(settings.get("quality") or "normal")]
            path, view = save_view_picture(folder / "views" / Path(camera.name).stem, photo, camera, side)
            numbers = found.metrics.get("per_camera", {}).get(camera.name, {})
            scene_cameras.append(
                SceneCamera(camera, view, path.relative_to(folder).as_posix(), str(photo.path), numbers)
            )
    partly = [f"{name} {reason}." for name, reason in found.failed.items()]
    if found.grade in ("C", "D"):
        partly.append(f"The cameras as a whole are graded {found.grade}: check them before use.")
    return Result(
        name="Cameras",
        method=found.method,
        cameras=scene_cameras,
        failed=found.failed,
        active_camera=found.cameras[0].name,
        world_from_result=orient(found.cameras, found.cloud) if found.world is None else found.world,
        field_file="field.safetensors" if (folder / "field.safetensors").is_file() else None,
        points_file="points.npz",
        seed=int(settings.get("seed") or 0),
        settings=dict(settings),
        metrics={
            "grade": found.grade,
            **({"partly": partly} if partly else {}),
            "doubtful": sum(camera.grade == DOUBTFUL for camera in found.cameras),
            **{key: value for key, value in found.metrics.items() if key != "per_camera"},
        },
    )


def write_cameras(folder: Path, found: PoseEstimate) -> None:
    """`transforms.json` (and `transforms_opencv.json`), `cameras/` (COLMAP text) of the original photos, and `points.npz`.

    All in the result's frame.
    """
    for name, axes in (("transforms.json", nerf_json.OPENGL), ("transforms_opencv.json", nerf_json.OPENCV)):
        nerf_json.write(folder / name, found.cameras, found.failed, extra={"grade": found.grade}, axes=axes)
    colmap_files.write_text(folder / "cameras", found.cameras, found.cloud)
    np.savez(folder / "points.npz", points=found.cloud.points.astype(np.float32), colors=found.cloud.colors)
