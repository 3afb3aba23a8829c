# SPDX-License-Identifier: GPL-3.0-or-later
"""Regions to blend: parts of a face, reduction to the rays, the ring around a region, the points behind a mask."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_fill_holes
from torch import Tensor

CELEBA_PARTS: dict[str, tuple[int, ...]] = {
    "face": (1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13),
    "hair": (17, 18),
    "eyes": (4, 5, 6),
    "nose": (10,),
    "lip": (11, 12, 13),
    "eyebrows": (2, 3),
}
"""Classes of the public 19-class face parser behind each part (3D-aware blending, supplement)."""
RING = {"eyes": 15, "lip": 15}
"""Width in pixels of 512 of the band around a part; `RING_USUAL` elsewhere."""
RING_USUAL = 25


def part_mask(classes: NDArray[np.integer], part: str) -> NDArray[np.bool_]:
    """(H, W) classes of `CELEBA_PARTS` -> (H, W) whether a pixel belongs to the part.

    Raises:
        KeyError: no such part.
    """
    return np.isin(classes, CELEBA_PARTS[part])


def edit_mask(original: NDArray[np.integer], reference: NDArray[np.integer], part: str) -> NDArray[np.bool_]:
    """The region to blend: the part in the original and in the aligned reference; a face without the hair of either."""
    region = part_mask(original, part) | part_mask(reference, part)
    if part == "face":
        region &= ~(part_mask(original, "hair") | part_mask(reference, "hair"))
    return region


def for_rays(mask: Tensor, resolution: int) -> Tensor:
    """mask (B, 1, H, W) of the picture -> (B, 1, R, R) of the rays, nearest."""
    return F.interpolate(mask, size=(resolution, resolution), mode="nearest")


def share_weight(ray_mask: Tensor) -> Tensor:
    """How much a mean over all rays has to be raised to be one over the masked rays: all / nonzero.

    Raises:
        ValueError: the mask is empty.
    """
    inside = torch.count_nonzero(ray_mask)
    if inside == 0:
        raise ValueError("the mask is empty at the resolution of the rays")
    return ray_mask.numel() / inside


def ring(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """(H, W) band of `width` pixels outside the filled region."""
    filled = binary_fill_holes(mask)
    y, x = np.ogrid[-width : width + 1, -width : width + 1]
    return binary_dilation(filled, x * x + y * y <= width * width) & ~filled


def mask_points(
    origins: Tensor, directions: Tensor, depth: Tensor, opacity: Tensor, ray_mask: Tensor
) -> NDArray[np.float64]:
    """The surface points behind a mask, from a rendering instead of a mesh (our choice: no mesh has to be made).

    Args:
        origins: (R^2, 3) of the rendering's rays.
        directions: (R^2, 3) unit.
        depth: (1, R, R) distance along the ray.
        opacity: (1, R, R); rays with less than a half hit nothing.
        ray_mask: (1, R, R), nonzero inside.

    Returns:
        (N, 3) float64 in the generator's frame.
    """
    chosen = (ray_mask.flatten() > 0) & (opacity.flatten() >= 0.5)
    points = origins[chosen] + directions[chosen] * depth.flatten()[chosen, None]
    return points.double().cpu().numpy()
