# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels of any Pillow mode as float sRGB with straight alpha, scaled by true area averages."""

from __future__ import annotations

import io
import logging
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

log = logging.getLogger(__name__)


def scaled_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    if max_side is None or max(size) <= max_side:
        return size
    scale = max_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def as_arrays(
    image: Image.Image, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Any Pillow mode -> rgb and alpha at `size` (width, height), not yet turned upright."""
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow's own conversion of these modes clips at 255.
        grey = _area_average(np.asarray(image, np.float32), size)
        grey = np.clip(grey / 65535.0 if image.mode.startswith("I") else grey, 0.0, 1.0)
        return np.repeat(grey[..., None], 3, 2), None
    profile = image.info.get("icc_profile")
    has_alpha = image.mode in ("PA", "LA", "La", "RGBa", "RGBA") or "transparency" in image.info
    if has_alpha:
        image = image.convert("RGBA")
    elif image.mode in ("1", "P"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if not has_alpha:
        return _to_srgb(_area_average(pixels, size), image.mode, profile), None
    if image.size == size:
        return _to_srgb(pixels[..., :3], "RGB", profile), pixels[..., 3].astype(np.float32) / 255.0
    # Colours weighted by alpha, so that what lies under transparent pixels does not bleed into edges; one channel at
    # a time because of memory.
    alpha = pixels[..., 3].astype(np.float32) / 255.0
    small_alpha = _area_average(alpha, size)
    small = _area_average(pixels[..., :3], size).astype(np.float32)
    seen = small_alpha > 1e-4
    for channel in range(3):
        weighted = _area_average(pixels[..., channel].astype(np.float32) * alpha, size)
        small[seen, channel] = weighted[seen] / small_alpha[seen]
    small = np.clip(small + 0.5, 0, 255).astype(np.uint8)
    return _to_srgb(small, "RGB", profile), np.clip(small_alpha, 0.0, 1.0)


def _area_average(plane: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """(H, W[, C]) to (width, height); Pillow's BOX filter gives whole pixels only and so moves edges."""
    if plane.shape[1::-1] == size:
        return plane
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))


def _to_srgb(pixels: NDArray[np.uint8], mode: str, profile: bytes | None) -> NDArray[np.float32]:
    """8-bit pixels of a Pillow mode -> (H, W, 3) float32 sRGB, through the embedded profile where there is one."""
    image = Image.frombytes(mode, pixels.shape[1::-1], np.ascontiguousarray(pixels).tobytes())
    if profile or mode == "LAB":
        try:
            source = ImageCms.ImageCmsProfile(
                io.BytesIO(profile) if profile else ImageCms.createProfile("LAB")
            )
            if not profile or "srgb" not in ImageCms.getProfileDescription(source).lower():
                target = ImageCms.createProfile("sRGB")
                image = ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image
        except (ImageCms.PyCMSError, OSError) as error:
            log.warning("The colour profile cannot be used, colours are taken as they are: %s", error)
    return np.asarray(image.convert("RGB"), np.float32) / np.float32(255.0)
