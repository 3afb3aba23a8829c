# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `head_invert`: a portrait -> its latent and camera -> a generator tuned to it -> a textured head behind which the photo stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..fit.inversion import InversionSettings, Perceptual, Pivot, find_pivot, likeness, tune
from ..head_settings import InvertSettings
from ..images.load import open_photos
from ..images.mask_files import save_masks
from ..jobs.request import Request
from ..models.eg3d.generator import Eg3d
from ..progress import Progress
from ..results import Result
from ..types import DOUBTFUL, Photo, PoseEstimate, SparseCloud, View
from .field_to_result import pick_device
from .head_code import HeadCode, code_of
from .head_fit import distance, effort, on_device, shower, starting_points, told_slow
from .head_model import OpenModel, find_head_model
from .head_result import PLAN as FINISH_PLAN
from .head_result import finish, made_head
from .portrait import FoundPortrait, found_portrait
from .poses import report_cameras

PLAN = {"face": 1.0, "latent": 30.0, "tuning": 25.0, "views": 0.5, **FINISH_PLAN}
GOOD_PSNR = 20.0
"""A head that looks less like its photo has a doubtful camera."""


@dataclass(frozen=True)
class Inverted:
    """A portrait's head."""

    found: FoundPortrait
    pivot: Pivot
    network: Eg3d
    """Tuned."""
    code: HeadCode
    psnr: tuple[float, float]
    """dB on the head after the latent and after tuning."""


def run(request: Request, folder: Path, progress: Progress) -> Result:
    """A portrait to a textured head and the photo's camera.

    Args:
        request: one photo; settings are those of `InvertSettings`.
        folder: receives the files of the Result.
        progress: plan and stages are set here.

    Raises:
        InputError: ONE_PICTURE, those of `portrait.found_portrait`; MissingError: HEAD_MODEL_MISSING.
        FailedError: NO_SURFACE. Cancelled.
    """
    settings = InvertSettings.from_json(request.settings)
    opened = find_head_model(settings.model).open(pick_device(settings.device))
    progress.set_plan(PLAN)
    photo = one_photo(request.inputs, progress)
    compare = distance(settings.perceptual)
    told_slow(opened, progress)
    with progress.stage("face"):
        found = found_portrait(photo, opened, settings.mask)
    made = invert(opened, found, effort(settings.quality, settings.steps), compare, folder, progress)
    result = _with_camera(made, folder, progress, settings)
    head = made_head(opened, made.code)
    finish(head, result, folder, settings, progress)
    result.metrics |= {"latent_psnr": round(made.psnr[0], 2), "head_psnr": round(made.psnr[1], 2)}
    result.metrics["compared_by"] = "LPIPS" if settings.perceptual else "colours and gradients at five scales"
    return result


def one_photo(inputs: tuple[str, ...], progress: Progress) -> Photo:
    """The one picture of a request.

    Raises:
        InputError: ONE_PICTURE; those of `open_photos`.
    """
    photos = open_photos([Path(path) for path in inputs], progress)
    if len(photos) != 1:
        raise InputError(
            "ONE_PICTURE",
            f"A head is made of one portrait; {len(photos)} were given.",
            "Choose the portrait that shows the face best.",
        )
    return photos[0]


def invert(
    opened: OpenModel,
    found: FoundPortrait,
    settings: InversionSettings,
    compare: Perceptual,
    folder: Path,
    progress: Progress,
) -> Inverted:
    """Stages `latent` and `tuning`."""
    show = shower(folder, progress)
    with progress.stage("latent"):
        pivot = pivot_of(opened, found, settings, compare, progress, folder)
    first = likeness(opened.network, pivot)
    with progress.stage("tuning"):
        tuned = tune(opened.network, [pivot], opened.latent, settings, compare, progress, show)
    code = code_of(opened, pivot.ws, pivot.label, tuned, pivot.portrait)
    return Inverted(found, pivot, tuned, code, (first, likeness(tuned, pivot)))


def pivot_of(
    opened: OpenModel,
    found: FoundPortrait,
    settings: InversionSettings,
    compare: Perceptual,
    progress: Progress,
    folder: Path,
) -> Pivot:
    """Latent and camera of a found portrait."""
    portrait = on_device(found.portrait, opened.device)
    crop = torch.from_numpy(found.crop).permute(2, 0, 1)[None] * 2 - 1
    starts = starting_points(opened, portrait, crop)
    return find_pivot(opened.network, portrait, starts, settings, compare, progress, shower(folder, progress))


def _with_camera(made: Inverted, folder: Path, progress: Progress, settings: InvertSettings) -> Result:
    """The photo, its camera and its mask."""
    found = made.found
    camera = found.camera(made.code.label)
    if made.psnr[1] < GOOD_PSNR:
        camera = replace(
            camera, grade=DOUBTFUL, reason=f"the head looks like the photo to {made.psnr[1]:.0f} dB only"
        )
    estimate = PoseEstimate(
        [camera], {}, SparseCloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8)), "head_invert", "B"
    )
    result = report_cameras([found.photo], estimate, folder, progress, settings.as_json())
    result.points_file = None
    height, width = found.rgb.shape[:2]
    save_masks(folder / "masks", [View(camera.resized(width, height), found.rgb, found.mask)], [camera])
    result.name, result.method = Path(found.photo.name).stem, "head_invert"
    return result
