# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures of the work so far, which a panel shows while it goes on."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..fields.sparse_grid import SparseGrid
from ..progress import PREVIEWS, Progress
from ..render.volume import render_field
from ..types import Camera

SIDE = 192
"""Long side in pixels; a panel shows it at about this size."""
EVERY_S = 1.5
"""Between two pictures, at least."""
SHARE = 0.03
"""Of the time at most goes into pictures; our choice."""
BACKGROUND = 0.25
"""Grey behind the object, as Blender's viewport."""


class LivePreview:
    """Writes picture after picture, each under a new name, because readers keep what they have read; the last two stay.

    Args:
        folder: the unfinished result; `jobs.execution` takes the pictures out of the finished one.
        progress: told of each picture.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder = folder / PREVIEWS
        self._progress = progress
        self._count = 0
        self._due = 0.0

    def show(self, rgb: NDArray[np.float32], alpha: NDArray[np.float32] | None = None) -> None:
        """Write a picture now. rgb (H, W, 3) in 0..1, sRGB; with alpha (H, W), straight colours over grey."""
        if alpha is not None:
            rgb = rgb * alpha[..., None] + BACKGROUND * (1 - alpha[..., None])
        self._write(Image.fromarray((rgb * 255 + 0.5).clip(0, 255).astype(np.uint8)))

    def field(self, field: SparseGrid, camera: Camera) -> None:
        """The field as a camera sees it, unless the last picture was a moment ago."""
        if time.monotonic() < self._due:
            return
        began = time.monotonic()
        scale = min(1.0, SIDE / max(camera.width, camera.height))
        small = camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))
        rgb, alpha, _ = render_field(field, small)
        self.show(rgb + BACKGROUND * (1 - alpha[..., None]))
        spent = time.monotonic() - began
        self._due = time.monotonic() + max(EVERY_S, spent / SHARE)

    def _write(self, picture: Image.Image) -> None:
        picture.thumbnail((SIDE, SIDE))
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{self._count}.png"
        picture.save(path)
        self._progress.preview(path)
        (self._folder / f"{self._count - 2}.png").unlink(missing_ok=True)
        self._count += 1
