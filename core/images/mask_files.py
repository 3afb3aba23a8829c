# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks as picture files that lie over the photos: written to be looked at and painted, read when they are given back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from ..progress import Progress
from ..types import Camera, Photo, View
from .load import open_photos, read_pixels

LONGEST_SIDE = 4096
"""Pixels; masks of larger photos are read and written scaled."""


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
        mask = files.get(photo.path.stem.casefold()) or files.get(photo.path.name.casefold())
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
        progress.warning(f"No mask was given for {', '.join(missing)}.")
    return masks


def save_masks(
    folder: Path, views: list[View], masks: list[NDArray[np.float32]], cameras: list[Camera]
) -> list[Path]:
    """Write masks so that they lie over the original photos, lens distortion included, and can be given back.

    Args:
        folder: made where it does not exist; receives `NAME.png` per photo, 8-bit grey, white object.
        views: undistorted pictures that the masks belong to.
        masks: per view (H, W) float32 0..1.
        cameras: full-resolution cameras of the photos with distortion, in the order of the views.

    Returns:
        The files, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for view, mask, camera in zip(views, masks, cameras, strict=True):
        path = folder / f"{Path(camera.name).stem}.png"
        pixels = np.clip(over_photo(mask, view.camera, camera) * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        files.append(path)
    return files


def over_photo(mask: NDArray[np.float32], view: Camera, camera: Camera) -> NDArray[np.float32]:
    """A view's mask as the lens would show it: (H, W) float32, the photo's shape, not larger than twice the view.

    What lies beyond the view gets the value of its border: undistortion may have cut a rim of the photo.
    """
    scale = min(
        1.0,
        LONGEST_SIDE / max(camera.width, camera.height),
        2.0 * max(mask.shape) / max(camera.width, camera.height),
    )
    photo = camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))
    columns, rows = np.meshgrid(np.arange(photo.width) + 0.5, np.arange(photo.height) + 0.5)
    seen = np.stack([columns, rows], -1).reshape(-1, 1, 2)
    ideal = cv2.undistortPoints(seen, photo.matrix, np.asarray(photo.distortion, np.float64), P=view.matrix)
    place = (ideal.reshape(photo.height, photo.width, 2) - 0.5).astype(np.float32)
    moved = cv2.remap(mask, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)
