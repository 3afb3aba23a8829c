# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks as picture files that lie over the photos: written to be looked at and painted, read when they are given back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..cameras.photo_frame import at_most, to_photo
from ..errors import InputError
from ..progress import Progress
from ..types import Camera, Photo, View
from .load import open_photos, read_pixels

LONGEST_SIDE = 4096
"""Pixels; larger masks are read scaled."""


def read_masks(folder: Path, photos: list[Photo], progress: Progress) -> dict[str, NDArray[np.float32]]:
    """Masks named like the photos, with any suffix (`IMG_1.png` or `IMG_1.jpg.png` for `IMG_1.jpg`).

    Args:
        folder: holds the mask files; alpha counts where a file has it, else brightness.
        photos: whose masks are wanted.
        progress: gets one warning that lists photos without a mask.

    Returns:
        Photo name -> (h, w) float32 0..1, 1 object, of the whole photo in the mask file's size.

    Raises:
        InputError: MASKS_NOT_FOUND where no mask belongs to a photo, MASK_OTHER_SHAPE, and those of `open_photos`.
    """
    files = {mask.path.stem.casefold(): mask for mask in open_photos([folder])} if folder.is_dir() else {}
    masks, missing = {}, []
    for photo in photos:
        names = (Path(photo.name).stem, photo.path.stem, photo.path.name)
        mask = next((files[name.casefold()] for name in names if name.casefold() in files), None)
        if mask is None:
            missing.append(photo.name)
            continue
        if abs(mask.width * photo.height / (mask.height * photo.width) - 1.0) > 0.01:
            raise InputError(
                "MASK_OTHER_SHAPE",
                f"The mask {mask.name} has another shape than its photo.",
                "Save it uncropped and upright.",
            )
        rgb, alpha = read_pixels(mask, LONGEST_SIDE)
        masks[photo.name] = alpha if alpha is not None else np.asarray(rgb.mean(2), np.float32)
    if not masks:
        raise InputError(
            "MASKS_NOT_FOUND",
            f"The folder {folder} holds no mask with the name of a photo.",
            "Name masks like their photos.",
        )
    if missing:
        named = ", ".join(missing) if len(missing) <= 5 else f"{len(missing)} of {len(photos)} photos"
        progress.warning(f"No mask was given for {named}.")
    return masks


def save_masks(folder: Path, views: list[View], cameras: list[Camera]) -> None:
    """Write masks so that they lie over the original photos, lens distortion included: to be looked at, painted, given back.

    Args:
        folder: made where there is a mask; receives `STEM.png` per photo that has one, 8-bit grey, white object.
        views: undistorted pictures; their masks are written.
        cameras: full-resolution cameras of the photos with distortion, in the order of the views.
    """
    for view, camera in zip(views, cameras, strict=True):
        if view.mask is not None:
            folder.mkdir(parents=True, exist_ok=True)
            # Twice the view's size: in places the lens asks for finer pixels than the view has.
            plane = to_photo(view.mask, view.camera, at_most(camera, 2 * max(view.mask.shape)))
            pixels = np.clip(plane * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{Path(camera.name).stem}.png")
