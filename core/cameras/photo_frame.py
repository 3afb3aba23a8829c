# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks moved between a photo as it lies on disk and its undistorted view. numpy only: Blender's process uses it.

Pictures take OpenCV's way (`images.undistort`); a mask is smooth enough for one bilinear sample a pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..types import Camera
from .distortion import distort, undistort

Plane = NDArray[np.float32]

_ROWS = 128
"""Rows at a time: bounds the memory, a few MB instead of hundreds."""


def to_view(plane: Plane, photo: Camera, view: Camera) -> Plane:
    """What the view sees of a plane that lies over the photo.

    Args:
        plane: (h, w) float32 over the whole photo, any size; beyond its border its last value goes on.
        photo: the photo's camera, distortion included.
        view: pinhole camera of the same pose.

    Returns:
        (view.height, view.width) float32.
    """
    return _moved(plane, photo, view)


def to_photo(plane: Plane, view: Camera, photo: Camera) -> Plane:
    """Inverse of `to_view`: (h, w) float32 over the whole view, any size -> (photo.height, photo.width) float32.

    What lies beyond the view gets the value of its border: undistortion may have cut a rim of the photo.
    """
    return _moved(plane, view, photo)


def at_most(photo: Camera, side: int) -> Camera:
    """The camera of the same photo scaled down to a long side of `side` pixels, or as it is where that is shorter."""
    scale = min(1.0, side / max(photo.width, photo.height))
    return photo.resized(max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))


def _moved(plane: Plane, source: Camera, target: Camera) -> Plane:
    """For every pixel of `target`: along its ray into `source`, and there between the four nearest pixels."""
    height, width = plane.shape
    source = source.resized(width, height)
    out = np.empty((target.height, target.width), np.float32)
    columns = np.arange(target.width) + 0.5
    for top in range(0, target.height, _ROWS):
        rows = np.arange(top, min(top + _ROWS, target.height)) + 0.5
        x, y = (values.ravel() for values in np.meshgrid(columns, rows))
        seen = np.stack([(x - target.cx) / target.fx, (y - target.cy) / target.fy], 1)
        bent = distort(undistort(seen, target.distortion), source.distortion)
        place = bent * [source.fx, source.fy] + [source.cx - 0.5, source.cy - 0.5]
        place = np.clip(place, 0.0, [width - 1, height - 1])
        low = np.minimum(place.astype(np.int64), [max(width - 2, 0), max(height - 2, 0)])
        right, down = (place - low).T.astype(np.float32)
        column, row = low.T
        after, below = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
        upper = plane[row, column] * (1 - right) + plane[row, after] * right
        lower = plane[below, column] * (1 - right) + plane[below, after] * right
        out[top : top + len(rows)] = (upper * (1 - down) + lower * down).reshape(len(rows), -1)
    return out
