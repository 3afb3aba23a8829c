# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pixels a blend takes from the reference: a part by name, as the bundled parser sees it in both pictures, or a painted mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from torch import Tensor

from ..errors import InputError
from ..images.load import open_photos
from ..models.eg3d.cameras import FOCAL
from ..models.heads.faces import Face, face_parts
from ..models.heads.parser import PARTS
from ..types import Photo
from .head_model import head_parser
from .portrait import FoundPortrait, crop_plane, given_mask

NAMES: dict[str, tuple[str, ...]] = {
    "hair": ("hair",),
    "eyes": ("eyes",),
    "nose": ("nose",),
    "mouth": ("mouth",),
    "brows": ("brows",),
    "face": ("skin", "eyes", "brows", "nose", "mouth"),
}
"""Parts of the parser behind each region; ears are no part of a face, as in the published masks."""
GROWN = {"eyes": 0.03, "brows": 0.02, "nose": 0.015, "mouth": 0.02}
"""Shares of the picture by which a region is made wider: lids and wings belong to what is blended (our choice)."""
LEAST = 0.0004
"""Share of the picture below which a part is not there."""


def parts_of(picture: Tensor, label: Tensor) -> NDArray[np.uint8]:
    """(P, P) `PARTS` of a generator's picture (1, 3, P, P), -1..1, seen by the camera (1, 25)."""
    side = picture.shape[-1]
    k = label[0, 16:].view(3, 3)
    x, y = float(k[0, 2]) * side, float(k[1, 2]) * side
    face = Face(x, y, side * float(k[0, 0]) / FOCAL, 0.0, 0.0, 0.0)
    rgb = ((picture[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return face_parts(head_parser(), (rgb * 255 + 0.5).astype(np.uint8), face)


def part_mask(parts: NDArray[np.uint8], region: str) -> NDArray[np.bool_]:
    """(P, P) where a region is."""
    return np.isin(parts, [PARTS.index(name) for name in NAMES[region]])


def region_mask(
    original: NDArray[np.uint8], reference: NDArray[np.uint8], region: str, names: tuple[str, str]
) -> NDArray[np.bool_]:
    """The region in the original or in the aligned reference, a little wider; a face without the hair of either.

    Args:
        original: (P, P) parts.
        reference: (P, P) of the aligned reference.
        region: a key of `NAMES`.
        names: of both, for the error.

    Raises:
        InputError: REGION_NOT_SEEN where either shows none of it (bald heads have no hair to give).
    """
    masks = [part_mask(parts, region) for parts in (original, reference)]
    if masks[1].mean() < LEAST or (masks[0].mean() < LEAST and region != "hair"):
        name = names[1] if masks[1].mean() < LEAST else names[0]
        raise InputError(
            "REGION_NOT_SEEN",
            f"{name} shows no {region}.",
            "Choose another region, or paint a mask.",
        )
    out = masks[0] | masks[1]
    if region == "face":
        hair = PARTS.index("hair")
        out &= ~((original == hair) | (reference == hair))
    reach = round(GROWN.get(region, 0.0) * len(out))
    return np.asarray(binary_dilation(out, iterations=reach)) if reach else out


def painted_mask(path: Path, side: int, found: FoundPortrait | None) -> NDArray[np.bool_]:
    """A painted region in the original's crop.

    Args:
        path: white on the region; over the whole photo, or over the head's own square picture.
        side: of that picture.
        found: where the original's face lies in its photo; None where the original is a result.

    Raises:
        InputError: HEAD_MASK_SIZE, HEAD_MASK_EMPTY, MASK_OUTSIDE_HEAD.
    """
    if found is not None:
        plane = given_mask(path, found.photo, (found.photo.width, found.photo.height))
        _some(plane, path)
        region = crop_plane(plane, found.face, side) > 0.5
    else:
        (picture,) = open_photos([path])
        square = Photo(f"the head's picture ({side} x {side})", path, side, side)
        if abs(picture.width / picture.height - 1) > 0.01:
            raise InputError(
                "HEAD_MASK_SIZE",
                f"The mask {path.name} is {picture.width} x {picture.height}; {square.name} is square.",
                "Paint over the picture beside the result (picture.png).",
            )
        plane = given_mask(path, square, (side, side))
        _some(plane, path)
        region = plane > 0.5
    if not region.any():
        raise outside(path.name)
    return region


def checked_region(region: NDArray[np.bool_], covers: list[Tensor], name: str) -> Tensor:
    """The region as a tensor (1, 1, P, P), if it lies on one of the heads.

    Args:
        region: (P, P).
        covers: opacities of both heads, (1, 1, R, R).
        name: of the mask.

    Raises:
        InputError: MASK_OUTSIDE_HEAD.
    """
    mask = torch.from_numpy(region).float()[None, None]
    for cover in covers:
        whole = torch.nn.functional.interpolate(cover.cpu(), size=mask.shape[2:], mode="bilinear")
        if bool(((whole > 0.5) & (mask > 0.5)).any()):
            return mask
    raise outside(name)


def outside(name: str) -> InputError:
    """A mask beside the head."""
    return InputError(
        "MASK_OUTSIDE_HEAD", f"The mask {name} lies beside the head.", "Paint the region on the head."
    )


def _some(plane: NDArray[np.float32], path: Path) -> None:
    if float(plane.max()) < 0.5:
        raise InputError("HEAD_MASK_EMPTY", f"The mask {path.name} is empty.", "Paint the region white.")
