# SPDX-License-Identifier: GPL-3.0-or-later
"""What a photo says about the geometry in it at one size: where the object is, how sure that is, and its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..images.plain_background import plain_evidence
from ..images.single_mask import object_mask
from ..progress import Progress
from ..types import Camera, View

Map = NDArray[np.float32]

SURE, GUESS, NOTHING = 1.0, 0.4, 0.0
"""How far a mask is believed: alpha, a mask file and a plain background; what GrabCut made of it; no mask."""


@dataclass(frozen=True)
class Evidence:
    """A photo at a working size."""

    rgb: Map
    """(H, W, 3) float32 sRGB 0..1."""
    mask: Map | None
    """(H, W) float32 0..1; None where nothing tells the object."""
    trust: float
    """0..1: how far the mask is believed."""

    def resized(self, longest: int) -> Evidence:
        """By area averaging; never larger."""
        height, width = self.rgb.shape[:2]
        scale = min(1.0, longest / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        rgb = cv2.resize(self.rgb, size, interpolation=cv2.INTER_AREA)
        mask = None if self.mask is None else cv2.resize(self.mask, size, interpolation=cv2.INTER_AREA)
        return Evidence(np.asarray(rgb, np.float32), mask, self.trust)

    def camera(self, camera: Camera) -> Camera:
        """The camera of the photo for pictures of this size."""
        return camera.resized(self.rgb.shape[1], self.rgb.shape[0])


def gather_evidence(
    name: str, rgb: Map, alpha: Map | None, given: Map | None, progress: Progress, mode: str = "auto"
) -> Evidence:
    """Find the object of a photo if that can be done.

    Args:
        name: of the photo, for messages.
        rgb: (H, W, 3) float32 sRGB 0..1.
        alpha: (H, W) float32 0..1; None where the file has none.
        given: (h, w) float32 0..1, a mask from the artist; it wins.
        progress: told where the outline is a guess.
        mode: auto; alpha: nothing but alpha or a given mask; none: no mask.
    """
    if given is not None:
        size = rgb.shape[1], rgb.shape[0]
        return Evidence(
            rgb, np.asarray(cv2.resize(given, size, interpolation=cv2.INTER_AREA), np.float32), SURE
        )
    if mode == "none" or (mode == "alpha" and alpha is None):
        return Evidence(rgb, None, NOTHING)
    height, width = rgb.shape[:2]
    camera = Camera("", width, height, 1.0, 1.0, width / 2, height / 2, np.eye(4))
    sure = alpha is not None or plain_evidence([View(camera, rgb)]) is not None
    try:
        mask = object_mask(name, rgb, alpha, Progress() if not sure else progress, mode)
    except InputError as error:
        if error.code != "NO_FOREGROUND":
            raise
        return Evidence(rgb, None, NOTHING)
    return Evidence(rgb, mask, SURE if sure else GUESS)
