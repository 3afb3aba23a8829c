# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of the photos for structure from motion: upright, scaled, under plain ASCII names, grouped by lens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images.load import read_pixels
from ..progress import Progress
from ..types import Photo

GUESSED_FOCAL = 1.2
"""Focal length over the long side where nothing is known; COLMAP's own default, a 43 mm lens."""
SMALL, ENLARGED, MOST = 600, 800, 4.0
"""Photos with a shorter long side are enlarged to so many pixels, at most so many times: at their own size pictures of
200 pixels have 500 features and 11 of 24 views of lego_200 found their place, enlarged 3000 and 24."""
SAME_MEAN, SAME_WORST = 0.004, 0.06
"""Two thumbnails closer than this (mean, largest difference of grey 0..1) are one picture, saved twice."""


@dataclass(frozen=True)
class Copy:
    """One working picture."""

    photo: Photo
    name: str
    """`GROUP/NUMBER.png`."""
    group: str
    width: int
    height: int
    thumbnail: NDArray[np.float32]
    """(h, w) grey 0..1, long side `THUMBNAIL` at most."""
    mask: NDArray[np.float32] | None
    """(h, w) of the thumbnail, 0..1: 1 object."""


@dataclass(frozen=True)
class Lens:
    """What is known of the lens of a group before anything is solved."""

    width: int
    height: int
    focal: float
    known: bool
    """True where the focal length comes from EXIF."""


@dataclass(frozen=True)
class WorkingSet:
    """All working pictures of a job."""

    folder: Path
    """Holds `images/` and, with masks, `masks/`."""
    copies: list[Copy]
    """Distinct pictures, in the photos' order."""
    lenses: dict[str, Lens]
    repeats: dict[str, str]
    """Name of a photo that shows the same picture as an earlier one -> that one's name."""
    masked: bool


THUMBNAIL = 144


def make_copies(
    photos: list[Photo],
    masks: Mapping[str, NDArray[np.float32]] | None,
    folder: Path,
    max_side: int,
    progress: Progress,
    share: float,
    enlarge: bool = True,
) -> WorkingSet:
    """Write working pictures into `folder`.

    Args:
        photos: the job's photos.
        masks: photo name -> (h, w) float32 0..1 of the whole photo in any size, 1 object; photos with alpha have one
            without being named here.
        folder: empty or new.
        max_side: long side at most, pixels.
        progress: updated from 0 to `share`.
        share: of the caller's stage.
        enlarge: whether small photos are enlarged.

    Returns:
        The working set. Photos share a lens where their sizes and EXIF focal lengths agree.
    """
    groups: dict[tuple[int, int, int], str] = {}
    lenses: dict[str, Lens] = {}
    copies: list[Copy] = []
    repeats: dict[str, str] = {}
    masked = False
    for number, photo in enumerate(photos):
        progress.update(share * number / len(photos))
        rgb, alpha = read_pixels(photo, max_side)
        mask = (masks or {}).get(photo.name, alpha)
        thumbnail = _thumbnail(rgb)
        rgb = _enlarged(rgb, max_side) if enlarge else rgb
        height, width = rgb.shape[:2]
        same = next((c for c in copies if _same_picture(c.thumbnail, thumbnail)), None)
        if same is not None:
            repeats[photo.name] = same.photo.name
            continue
        key = (
            photo.width,
            photo.height,
            round(100 * (photo.focal_px or 0.0) / max(photo.width, photo.height)),
        )
        group = groups.setdefault(key, f"g{len(groups)}")
        scale = width / photo.width
        focal = photo.focal_px * scale if photo.focal_px else GUESSED_FOCAL * max(width, height)
        lenses.setdefault(group, Lens(width, height, focal, photo.focal_px is not None))
        name = f"{group}/{number:05d}.png"
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((rgb * 255 + 0.5).astype(np.uint8)).save(path, compress_level=1)
        if mask is not None:
            masked = True
            _write_mask(folder / "masks" / f"{name}.png", mask, width, height)
            mask = cv2.resize(mask, thumbnail.shape[::-1], interpolation=cv2.INTER_AREA)
        copies.append(Copy(photo, name, group, width, height, thumbnail, mask))
    return WorkingSet(folder, copies, lenses, repeats, masked)


def _enlarged(rgb: NDArray[np.float32], max_side: int) -> NDArray[np.float32]:
    side = max(rgb.shape[:2])
    if side >= min(SMALL, max_side):
        return rgb
    scale = min(MOST, min(ENLARGED, max_side) / side)
    size = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
    return np.clip(cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC), 0.0, 1.0)


def _thumbnail(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, THUMBNAIL / max(grey.shape))
    size = max(8, round(grey.shape[1] * scale)), max(8, round(grey.shape[0] * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def _same_picture(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    if a.shape != b.shape:
        return False
    difference = np.abs(a - b)
    return float(difference.mean()) < SAME_MEAN and float(difference.max()) < SAME_WORST


def _write_mask(path: Path, mask: NDArray[np.float32], width: int, height: int) -> None:
    """COLMAP takes no features where a mask is 0. Two pixels around the object stay, its outline does not belong to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keep = (cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA) > 0.5).astype(np.uint8) * 255
    Image.fromarray(keep).save(path, compress_level=1)
