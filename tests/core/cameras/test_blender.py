# SPDX-License-Identifier: GPL-3.0-or-later
"""Lens, sensor and shift of known cameras, and the way back. Against Blender itself: tests/blender/test_camera_conversion.py."""

from __future__ import annotations

import numpy as np
import pytest
from maquette.core.cameras.blender import FLIP, from_blender, to_blender
from maquette.core.types import Camera


def camera(width, height, fx, fy, cx, cy):
    return Camera("photo.jpg", width, height, fx, fy, cx, cy, np.eye(4))


def test_worked_example():
    """4000 x 3000, f = 4000 px: 36 mm on a 36 mm sensor. Centre 100 px right and 50 px down of the middle:

    shift_x = -100 / 4000, shift_y = 50 / 4000.
    """
    settings = to_blender(camera(4000, 3000, 4000.0, 4000.0, 2100.0, 1550.0))
    assert settings.lens == pytest.approx(36.0)
    assert (settings.shift_x, settings.shift_y) == pytest.approx((-0.025, 0.0125))
    assert settings.pixel_aspect == (1.0, 1.0)
    assert np.array_equal(settings.matrix, FLIP)  # looking along +Z, as OpenCV's camera at the origin does


def test_portrait_uses_the_longer_side():
    """3000 x 4000 with f = 2000 px is 18 mm, because the sensor's 36 mm lie along the height."""
    assert to_blender(camera(3000, 4000, 2000.0, 2000.0, 1500.0, 2000.0)).lens == pytest.approx(18.0)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (512, 512)])
@pytest.mark.parametrize("ratio", [1.0, 1.3, 0.7])
def test_round_trip(size, ratio):
    width, height = size
    given = camera(width, height, 700.0 * ratio, 700.0, width / 2 + 31.0, height / 2 - 17.0)
    settings = to_blender(given)
    assert min(settings.pixel_aspect) == 1.0  # Blender refuses less
    back = from_blender(settings, given.name)
    values = [[c.fx, c.fy, c.cx, c.cy] for c in (given, back)]
    assert np.allclose(*values, rtol=0, atol=1e-9)
    assert np.allclose(back.cam_to_world, given.cam_to_world)
