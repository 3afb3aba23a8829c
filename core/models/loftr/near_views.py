# SPDX-License-Identifier: GPL-3.0-or-later
"""Matches between the four near views that One-2-3-45 estimates the elevation from."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .network import LoFTR

SIDE = 480
"""Pixels of the pictures that are matched."""
WHITE = 245
"""A pixel with all channels above this is background."""
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def match_near_views(
    matcher: LoFTR, pictures: NDArray[np.uint8]
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """All six pairs of four pictures.

    The original looks the mask of the first picture up at a mixed-up column; we use the proper one (the effect is small).

    Args:
        matcher: network with weights.
        pictures: (4, H, W, 3) uint8 on white.

    Returns:
        (i, j) -> (M, 5): x, y in picture i, x, y in picture j (pixels of H x W), confidence; foreground only.
    """
    height, width = pictures.shape[1:3]
    grey = torch.from_numpy(pictures.astype(np.float32) / 255) @ torch.tensor(_LUMA)  # (4, H, W)
    resized: Tensor = F.interpolate(grey[:, None], (SIDE, SIDE), mode="bilinear")
    back = np.array([width / SIDE, height / SIDE])
    foreground = pictures.min(3) <= WHITE
    device = next(matcher.parameters()).device
    found = {}
    for i, j in combinations(range(len(pictures)), 2):
        with torch.inference_mode():
            matches = matcher(resized[i].to(device), resized[j].to(device))
        ends = [points.double().cpu().numpy() * back for points in (matches.points0, matches.points1)]
        keep = np.ones(len(ends[0]), bool)
        for view, points in zip((i, j), ends, strict=True):
            column, row = np.clip(points.astype(int), 0, [width - 1, height - 1]).T
            keep &= foreground[view, row, column]
        found[i, j] = np.column_stack([*ends, matches.confidence.double().cpu().numpy()])[keep]
    return found
