# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures before plain black, white or one colour: the background is what hangs together with the border."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import View

SAME, OTHER = 0.08, 0.16
"""Largest difference of a channel that still is background, smallest that is not (sRGB 0..1; noise stays below)."""
BORDER = 0.75
"""Share of the border that has its colour: stands and cloths may reach into the picture."""


def plain_evidence(views: list[View]) -> list[NDArray[np.float32]] | None:
    """Where each picture shows its plain background.

    Returns:
        Per view (H, W) float32 log odds, -3 background .. 5 something else; None unless the border of (nearly) every
        picture has one colour.
    """
    maps = [_evidence(view) for view in views]
    found = [plane for plane in maps if plane is not None]
    if len(found) < 0.9 * len(views):
        return None
    nothing = [np.zeros(view.rgb.shape[:2], np.float32) for view in views]
    return [blank if plane is None else plane for plane, blank in zip(maps, nothing, strict=True)]


def _evidence(view: View) -> NDArray[np.float32] | None:
    rgb = view.rgb
    height, width = rgb.shape[:2]
    ring = np.zeros((height, width), bool)
    edge = max(2, round(0.03 * max(height, width)))
    ring[:edge], ring[-edge:], ring[:, :edge], ring[:, -edge:] = True, True, True, True
    if view.valid is not None:
        ring &= view.valid > 0.5
    colour = np.median(rgb[ring], 0)
    away = np.abs(rgb - colour).max(2)
    if np.mean(away[ring] < SAME) < BORDER:
        return None
    # A dim stand or cloth before black is nearer to the background than the lit object.
    other = (
        float(np.clip(0.5 * np.median(away[away > OTHER]), OTHER, 2 * OTHER))
        if (away > OTHER).any()
        else OTHER
    )
    doubt = np.clip((away - SAME) / (other - SAME), 0.0, 1.0)
    _, labels = cv2.connectedComponents((doubt < 0.5).astype(np.uint8), connectivity=4)
    outside = np.isin(labels, np.unique(labels[ring & (doubt < 0.5)]))
    # A spot of the background's colour inside the object is in doubt, not background.
    value = np.where(outside, doubt * 6.0 - 3.0, np.where(doubt < 0.5, 0.0, doubt * 5.0))
    return value.astype(np.float32)
