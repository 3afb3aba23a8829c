# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `mesh`: which method makes a mesh of these pictures."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, MissingError
from ..images.load import open_photos
from ..jobs.request import Request
from ..progress import Progress
from ..results import Result
from ..settings import MeshSettings
from ..types import Photo
from . import image_to_mesh, photos_to_mesh
from .single_image_model import find_single_image_model


def run(request: Request, folder: Path, progress: Progress) -> Result:
    """Pictures to a textured mesh.

    Args:
        request: inputs are photos or folders; settings are those of `MeshSettings`.
        folder: receives the files of the Result.
        progress: stages are set by the method.

    Raises:
        InputError: ONE_PHOTO, SEVERAL_PHOTOS, METHOD_MISSING; those of the methods.
        MissingError, FailedError, Cancelled: see the methods.
    """
    settings = MeshSettings.from_json(request.settings)
    progress.set_plan({"load": 1.0})
    with progress.stage("load"):
        photos = open_photos([Path(path) for path in request.inputs], progress)
    if choose_method(photos, settings) == "lrm":
        return image_to_mesh.run(request, folder, progress, photos[0])
    if settings.matting:
        progress.warning(
            "The matting model is used with a single picture only; these photos' masks are found."
        )
    return photos_to_mesh.run(request, folder, progress, photos)


def choose_method(photos: list[Photo], settings: MeshSettings) -> str:
    """`photos` or `lrm`.

    Raises:
        InputError: ONE_PHOTO for one picture without a model for it, or with method photos; SEVERAL_PHOTOS for several
            with method lrm; METHOD_MISSING.
    """
    method = settings.method
    if method not in ("auto", "photos", "lrm"):
        raise InputError(
            "METHOD_MISSING", f"The method {method} is not there yet.", "Use auto, photos or lrm."
        )
    if method == "lrm" and len(photos) > 1:
        raise InputError(
            "SEVERAL_PHOTOS",
            f"The method lrm takes one picture; {len(photos)} were given.",
            "Use auto or photos.",
        )
    if len(photos) > 1:
        return "photos"
    if method == "photos" or (method == "auto" and not settings.model and not _has_model()):
        raise InputError(
            "ONE_PHOTO",
            "A mesh from photos needs several photos from different sides; only one was given.",
            "Add photos (20 to 40 around the object are best), or use method lrm, which makes a mesh of a single picture "
            "when its model is there (maquette models download triposr).",
        )
    return "lrm"


def _has_model() -> bool:
    try:
        find_single_image_model()
    except MissingError:
        return False
    return True
