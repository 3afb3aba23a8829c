# SPDX-License-Identifier: GPL-3.0-or-later
"""A pixel of a view must show what its pinhole camera says, to 0.01 px."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from maquette.core.images.load import open_photos
from maquette.core.images.undistort import pinhole_camera, pixel_map, save_view_picture, undistort
from maquette.core.types import Camera
from PIL import Image

CASES = {
    "landscape": (640, 480, 700.0, 700.0, 330.0, 236.0, (-0.1, 0.02, 0.001, -0.002)),
    "portrait": (480, 640, 700.0, 712.0, 236.0, 330.0, (0.06, -0.08, 0.0005, 0.0)),
    "square": (512, 512, 600.0, 600.0, 256.0, 256.0, (0.0, 0.0, 0.0, 0.0)),
    "anamorphic": (640, 480, 600.0, 900.0, 300.0, 250.0, (0.02, 0.0, 0.0, 0.0)),
}


def _camera(case: str) -> Camera:
    width, height, fx, fy, cx, cy, distortion = CASES[case]
    return Camera("a.png", width, height, fx, fy, cx, cy, np.eye(4), distortion)


def _project(camera: Camera, points: np.ndarray) -> np.ndarray:
    """OpenCV's model written out: x (1 + k1 r2 + k2 r4) + tangential terms."""
    k1, k2, p1, p2 = camera.distortion
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return np.stack([camera.fx * xd + camera.cx, camera.fy * yd + camera.cy], 1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("max_side", [10_000, 333])
def test_map_agrees_with_projection(case: str, max_side: int) -> None:
    camera = _camera(case)
    target = pinhole_camera(camera, max_side)
    assert target.fx == target.fy and max(target.width, target.height) <= max_side
    map_x, map_y = pixel_map(camera, target, camera.width, camera.height)
    rows, columns = np.mgrid[0 : target.height : 17, 0 : target.width : 13].reshape(2, -1)
    rays = np.stack(
        [(columns + 0.5 - target.cx) / target.fx, (rows + 0.5 - target.cy) / target.fy, np.ones(len(rows))], 1
    )
    found = np.stack([map_x[rows, columns] + 0.5, map_y[rows, columns] + 0.5], 1)
    assert np.abs(found - _project(camera, rays)).max() < 0.001  # float32 maps of some hundred pixels


@pytest.mark.parametrize("finer", [1, 3])
def test_a_dot_lands_where_the_pinhole_camera_sees_it(tmp_path: Path, finer: int) -> None:
    camera = _camera("portrait").resized(480 * finer, 640 * finer)
    point = np.array([[0.21, -0.24, 1.0]])
    (x, y) = _project(camera, point)[0]
    grid_y, grid_x = np.mgrid[0 : camera.height, 0 : camera.width] + 0.5
    dot = np.exp(-((grid_x - x) ** 2 + (grid_y - y) ** 2) / (2 * (3.0 * finer) ** 2))
    Image.fromarray((dot * 65535).astype(np.uint16)).save(tmp_path / "a.png")
    (photo,) = open_photos([tmp_path / "a.png"])
    view = undistort(photo, camera, 640)
    weights = view.rgb[..., 0]
    rows, columns = np.mgrid[0 : weights.shape[0], 0 : weights.shape[1]] + 0.5
    centre = np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()
    expected = view.camera.project(point)[0][0]
    assert np.abs(centre - expected).max() < 0.03  # the dot itself is bent a little by the lens


def test_no_distortion_leaves_pixels_alone(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (photo,) = open_photos([tmp_path / "a.png"])
    view = undistort(photo, _camera("square"), 512)
    assert np.array_equal((view.rgb * 255 + 0.5).astype(np.uint8), pixels) and view.valid is None


def test_border_beyond_the_photo_is_not_valid(tmp_path: Path) -> None:
    Image.new("RGB", (640, 480), (90, 90, 90)).save(tmp_path / "a.png")
    (photo,) = open_photos([tmp_path / "a.png"])
    width, height, fx, fy, cx, cy, _ = CASES["landscape"]
    view = undistort(photo, Camera("a.png", width, height, fx, fy, cx, cy, np.eye(4), (0.2, 0, 0, 0)), 640)
    assert view.valid is not None and view.valid[0, 0] == 0.0 and view.valid[240, 320] == 1.0
    assert 0.5 < view.valid.mean() < 1.0


def test_mask_and_alpha_follow_the_picture(tmp_path: Path) -> None:
    pixels = np.zeros((480, 640, 4), np.uint8)
    pixels[100:300, 200:400] = (255, 255, 255, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (photo,) = open_photos([tmp_path / "a.png"])
    view = undistort(photo, _camera("landscape"), 320)
    assert view.mask is not None
    inside = view.mask > 0.5
    assert view.rgb[inside].min() > 0.9  # no dark fringe from under the transparent pixels
    given = np.zeros((48, 64), np.float32)
    given[10:30, 20:40] = 1.0  # the same square at a tenth
    again = undistort(photo, _camera("landscape"), 320, given)
    assert again.mask is not None and ((again.mask > 0.5) != inside).mean() < 0.01


def test_picture_for_blender_has_the_size_of_the_photo(tmp_path: Path) -> None:
    Image.new("RGB", (640, 480), (10, 200, 90)).save(tmp_path / "a.jpg")
    (photo,) = open_photos([tmp_path / "a.jpg"])
    path, camera = save_view_picture(tmp_path / "view.tmp", photo, _camera("landscape"))
    assert path.name == "view.jpg" and Image.open(path).size == (camera.width, camera.height) == (640, 480)
