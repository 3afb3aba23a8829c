# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks written over photos and given back are the same masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from maquette.core.cameras.distortion import distort
from maquette.core.cameras.photo_frame import to_photo, to_view
from maquette.core.errors import InputError
from maquette.core.images.load import open_photos
from maquette.core.images.mask_files import read_masks, save_masks
from maquette.core.images.undistort import pinhole_camera, undistort
from maquette.core.progress import Progress
from maquette.core.types import Camera
from numpy.typing import NDArray
from PIL import Image

BENT = Camera("IMG_1.jpg", 800, 600, 820.0, 826.0, 395.0, 306.0, np.eye(4), (-0.1, 0.0, 0.0, 0.0))


def test_round_trip_through_a_lens(tmp_path: Path) -> None:
    """A disk near a corner, where the lens bends, comes back as the same disk; read as if there were no lens it does not."""
    photos_folder = tmp_path / "photos"
    photos_folder.mkdir()
    Image.new("RGB", (800, 600), (90, 80, 70)).save(photos_folder / "IMG_1.jpg")
    photos = open_photos([photos_folder])
    view = undistort(photos[0], BENT, 400)
    rows, columns = np.mgrid[0:300, 0:400]
    mask = (np.hypot(columns - 300, rows - 90) < 60).astype(np.float32)
    view.mask = mask
    save_masks(tmp_path / "masks", [view], [BENT])
    assert Image.open(tmp_path / "masks" / "IMG_1.png").size == (800, 600)
    given = read_masks(tmp_path / "masks", photos, Progress())
    again = undistort(photos[0], BENT, 400, given["IMG_1.jpg"]).mask
    assert again is not None and overlap(again, mask) > 0.985
    unbent = undistort(photos[0], BENT, 400, np.asarray(Image.fromarray(mask).resize((800, 600)))).mask
    assert unbent is not None and overlap(unbent, mask) < 0.97


def test_frames_of_photo_and_view_are_each_others_inverse() -> None:
    """A dot drawn where the lens puts a ray is seen where the view has that ray, and back: 0.05 px."""
    view = pinhole_camera(BENT, 800)
    ray = np.array([[0.3, -0.25, 1.0]])
    (seen,), _ = view.project(ray)
    bent = distort(ray[:, :2], BENT.distortion)[0] * [BENT.fx, BENT.fy] + [BENT.cx, BENT.cy]
    assert np.linalg.norm(seen - bent) > 5  # the lens matters here
    for move, start, end, (source, target) in (
        (to_view, bent, seen, (BENT, view)),
        (to_photo, seen, bent, (view, BENT)),
    ):
        columns, rows = np.meshgrid(np.arange(800) + 0.5, np.arange(600) + 0.5)
        dot = np.exp(-((columns - start[0]) ** 2 + (rows - start[1]) ** 2) / 50).astype(np.float32)
        moved = move(dot, source, target)
        middle = np.array([(moved * columns).sum(), (moved * rows).sum()]) / moved.sum()
        assert np.linalg.norm(middle - end) < 0.05


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(((a > 0.5) & (b > 0.5)).sum() / ((a > 0.5) | (b > 0.5)).sum())


def test_names_sizes_and_missing_masks(tmp_path: Path) -> None:
    photos_folder, masks = tmp_path / "photos", tmp_path / "masks"
    photos_folder.mkdir()
    masks.mkdir()
    for name in ("a.jpg", "B.png", "c.png"):
        Image.new("RGB", (80, 60)).save(photos_folder / name)
    photos = open_photos([photos_folder])
    with pytest.raises(InputError) as caught:
        read_masks(masks, photos, Progress())
    assert caught.value.code in ("MASKS_NOT_FOUND", "NO_IMAGE")
    half = np.zeros((30, 40), np.uint8)
    half[:, 20:] = 255
    Image.fromarray(half).save(masks / "a.jpg.png")  # COLMAP's way
    clear = np.zeros((60, 80, 4), np.uint8)
    clear[:30, :, 3] = 255
    Image.fromarray(clear).save(masks / "b.webp", lossless=True)
    progress = Progress()
    found = read_masks(masks, photos, progress)
    assert set(found) == {"a.jpg", "B.png"} and "c.png" in progress.warnings[0]
    assert found["a.jpg"].shape == (30, 40) and found["a.jpg"][0, 30] == 1.0 and found["a.jpg"][0, 10] == 0.0
    assert (
        found["B.png"][10, 10] == 1.0 and found["B.png"][50, 10] == 0.0
    )  # alpha counts, not the black under it
    Image.fromarray(half).resize((60, 80)).save(masks / "c.png")
    with pytest.raises(InputError) as caught:
        read_masks(masks, photos, progress)
    assert caught.value.code == "MASK_OTHER_SHAPE"
