# SPDX-License-Identifier: GPL-3.0-or-later
"""What EXIF says about a photo: which way is up, and the focal length."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ORIENTATION, _EXIF = 0x0112, 0x8769
_FOCAL_MM, _FOCAL_35MM, _PLANE_RESOLUTION, _PLANE_UNIT, _EXIF_WIDTH = 0x920A, 0xA405, 0xA20E, 0xA210, 0xA002
_UNIT_MM = {
    2: 25.4,
    3: 10.0,
    4: 1.0,
    5: 0.001,
}  # EXIF 2.3, FocalPlaneResolutionUnit (4 and 5 as cameras use them)
_DIAGONAL_35MM = math.hypot(36.0, 24.0)


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where the file says nothing or nonsense."""
    value = image.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def focal_px(image: Image.Image) -> float | None:
    """Focal length in pixels of the full-resolution photo from EXIF, None where EXIF says nothing sensible.

    The 35 mm equivalent relates the diagonals (CIPA DCG-001), so it holds for scaled pictures; otherwise the
    resolution of the sensor plane, which counts pixels of the picture as it was taken, is corrected for its scaling.
    """
    exif = image.getexif().get_ifd(_EXIF)
    long_side = max(image.size)

    def number(tag: int) -> float:
        try:
            value = float(exif.get(tag, 0.0))
        except (TypeError, ValueError, ZeroDivisionError):
            return 0.0
        return value if math.isfinite(value) else 0.0

    candidates = [number(_FOCAL_35MM) * math.hypot(*image.size) / _DIAGONAL_35MM]
    unit = _UNIT_MM.get(int(number(_PLANE_UNIT)))
    if unit is not None:
        taken_width = number(_EXIF_WIDTH) or image.width
        candidates.append(number(_FOCAL_MM) * number(_PLANE_RESOLUTION) / unit * image.width / taken_width)
    for focal in candidates:
        if 0.25 * long_side <= focal <= 30.0 * long_side:  # 9 mm to 1000 mm equivalent: wider is a fisheye
            return focal
    return None


def turn_upright(plane: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """EXIF orientation 1..8 (EXIF 2.3, table of tag 0x0112) -> upright; plane (H, W) or (H, W, C)."""
    if orientation >= 5:
        plane = plane.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(plane[::rows, ::columns])
