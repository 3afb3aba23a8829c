# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks of one picture: drawn objects with known outlines, the pictures of `data/single`, and what holds no object."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from maquette.core.errors import InputError
from maquette.core.images.load import open_photos, read_pixels
from maquette.core.images.single_mask import object_mask
from maquette.core.progress import Progress
from PIL import Image

SIDE = 200


def disc(hole: bool = False) -> np.ndarray:
    """(SIDE, SIDE) bool: radius 60, with a hole of radius 20."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    off = np.hypot(x + 0.5 - SIDE / 2, y + 0.5 - SIDE / 2)
    return (off < 60) & ~((off < 20) & hole)


def drawn(mask: np.ndarray, back: float, noise: float = 0.004) -> np.ndarray:
    """A shaded red object before one colour, with sensor noise."""
    random = np.random.default_rng(0)
    shade = np.linspace(0.5, 0.9, SIDE)[:, None, None] * [1.0, 0.25, 0.2]
    rgb = np.where(mask[..., None], shade, back) + random.normal(0, noise, (SIDE, SIDE, 3))
    return np.clip(rgb, 0, 1).astype(np.float32)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one > 0.5, other > 0.5
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("back", [0.0, 0.5, 1.0])
def test_before_plain_colours_holes_stay_open(back: float) -> None:
    ring = disc(hole=True)
    assert iou(object_mask("a", drawn(ring, back), None, Progress()), ring) > 0.97


def test_a_highlight_before_white_is_no_hole() -> None:
    rgb = drawn(disc(), 1.0)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    spot = np.clip(1.2 - np.hypot(x - 90, y - 80) / 14, 0, 1)[..., None]
    rgb = (rgb * (1 - spot) + spot * [0.97, 0.95, 0.95]).astype(np.float32)
    assert iou(object_mask("a", rgb, None, Progress()), disc()) > 0.97


def test_before_a_busy_background_colours_decide_and_the_artist_is_told() -> None:
    random = np.random.default_rng(1)
    leaves = cv2.resize(random.uniform(0.1, 0.6, (25, 25, 1)), (SIDE, SIDE))[..., None] * [0.3, 0.9, 0.5]
    rgb = np.where(disc()[..., None], drawn(disc(), 0.5), leaves).astype(np.float32)
    progress = Progress()
    assert iou(object_mask("busy.jpg", rgb, None, progress), disc()) > 0.9
    assert any("busy.jpg" in text for text in progress.warnings)


def test_alpha_counts_as_it_is() -> None:
    alpha = np.where(disc(), 0.8, 0.0).astype(np.float32)
    assert np.array_equal(object_mask("a", drawn(disc(), 0.5), alpha, Progress()), alpha)


def test_rounded_corners_are_no_mask() -> None:
    alpha = np.ones((SIDE, SIDE), np.float32)
    alpha[:6, :6] = 0
    assert iou(object_mask("a", drawn(disc(), 1.0), alpha, Progress()), disc()) > 0.97


@pytest.mark.parametrize(
    ("rgb", "alpha", "mode", "code"),
    [
        (np.full((16, 16, 3), 0.5), None, "auto", "IMAGE_TOO_SMALL"),
        (np.full((64, 64, 3), 0.5), None, "auto", "NO_FOREGROUND"),
        (np.full((64, 64, 3), 0.5), np.zeros((64, 64)), "auto", "FULLY_TRANSPARENT"),
        (drawn(disc(), 1.0), None, "alpha", "NO_ALPHA"),
    ],
)
def test_what_shows_no_object_is_told(
    rgb: np.ndarray, alpha: np.ndarray | None, mode: str, code: str
) -> None:
    plane = None if alpha is None else alpha.astype(np.float32)
    with pytest.raises(InputError) as caught:
        object_mask("odd.png", rgb.astype(np.float32), plane, Progress(), mode)
    assert caught.value.code == code
    assert "odd.png" in caught.value.message


def test_none_takes_the_whole_picture() -> None:
    assert object_mask("a", drawn(disc(), 1.0), None, Progress(), "none").min() == 1


@pytest.mark.parametrize("kind", ["L", "CMYK", "P", "gif", "LA"])
def test_every_kind_of_file_gives_the_same_outline(kind: str, tmp_path: Path) -> None:
    picture = Image.fromarray((drawn(disc(), 1.0, 0.0) * 255).astype(np.uint8))
    if kind == "gif":
        path = tmp_path / "a.gif"
        other = Image.new("RGB", picture.size, (0, 90, 0))
        picture.save(path, save_all=True, append_images=[other], duration=100)
    elif kind == "LA":
        path = tmp_path / "a.png"
        grey = picture.convert("L")
        grey.putalpha(Image.fromarray((disc() * 255).astype(np.uint8)))
        grey.save(path)
    else:
        path = tmp_path / ("a.jpg" if kind == "CMYK" else "a.png")
        picture.convert(kind).save(path)
    progress = Progress()
    (photo,) = open_photos([path], progress)
    rgb, alpha = read_pixels(photo)
    assert iou(object_mask(photo.name, rgb, alpha, progress), disc()) > 0.95


def test_pictures_of_the_data_folder(shared: Path) -> None:
    """Share of the picture that the object covers, measured by hand within a few percent; handles are open."""
    folder = shared / "data" / "single"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/single")
    for photo in open_photos([folder]):
        rgb, alpha = read_pixels(photo, 512)
        mask = object_mask(photo.name, rgb, alpha, Progress())
        assert 0.05 < (mask > 0.5).mean() < 0.6, photo.name
        if photo.name == "teapot_grey_bg.png":
            handle = mask[round(0.56 * mask.shape[0]), round(0.81 * mask.shape[1])]
            assert handle < 0.5
