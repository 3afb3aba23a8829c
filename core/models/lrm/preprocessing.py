# SPDX-License-Identifier: GPL-3.0-or-later
"""What the published systems do to a picture before the network sees it. Sources: the public TripoSR and OpenLRM."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...errors import InputError

GREY = 0.5
"""TripoSR's background."""
WHITE = 1.0
"""OpenLRM's background."""


def centre_foreground(rgba: NDArray[np.uint8], ratio: float = 0.85) -> NDArray[np.uint8]:
    """TripoSR: cut the object out and pad it to a square of which it fills `ratio`; no resampling.

    The published box excludes the last row and column of the object.

    Args:
        rgba: (H, W, 4) uint8.
        ratio: share of the side that the longer side of the object takes.

    Returns:
        (n, n, 4) uint8, n = int(side / ratio), transparent black around the object.

    Raises:
        InputError: NO_FOREGROUND when nothing (or one row or column) is opaque.
    """
    rows, columns = np.nonzero(rgba[..., 3] > 0)
    if not len(rows) or rows.min() == rows.max() or columns.min() == columns.max():
        raise InputError(
            "NO_FOREGROUND", "The picture shows no object: its mask is empty.", "Mark the object in the mask."
        )
    cut = rgba[rows.min() : rows.max(), columns.min() : columns.max()]
    side = max(cut.shape[:2])
    square = _pad_to(cut, side)
    return _pad_to(square, int(side / ratio))


def _pad_to(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Pad with zeros to side x side; the odd pixel goes to the bottom and the right."""
    low = [(side - size) // 2 for size in image.shape[:2]]
    pads = [(a, side - size - a) for a, size in zip(low, image.shape[:2], strict=True)]
    return np.pad(image, [*pads, (0, 0)])


def on_grey(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """TripoSR: (H, W, 4) uint8 -> (H, W, 3) uint8 on grey, truncated to 8 bit as published."""
    image = rgba.astype(np.float32) / 255.0
    alpha = image[..., 3:]
    return ((image[..., :3] * alpha + (1 - alpha) * GREY) * 255.0).astype(np.uint8)


def triposr_input(rgb: NDArray[np.uint8], side: int) -> Tensor:
    """TripoSR: (H, W, 3) uint8 -> (3, side, side) float32 0..1, anti-aliased bilinear, half-pixel centres."""
    image = torch.from_numpy(rgb.astype(np.float32) / 255.0).permute(2, 0, 1)
    return F.interpolate(image[None], (side, side), mode="bilinear", antialias=True)[0]


def openlrm_input(rgba: NDArray[np.uint8], side: int) -> Tensor:
    """OpenLRM: (H, W, 4) uint8 -> (3, side, side) float32 0..1 on white, bicubic with aligned corners, not anti-aliased."""
    image = torch.from_numpy(rgba.astype(np.float32) / 255.0).permute(2, 0, 1)
    colour = image[:3] * image[3:] + (1 - image[3:]) * WHITE
    return F.interpolate(colour[None], (side, side), mode="bicubic", align_corners=True)[0].clamp(0, 1)
