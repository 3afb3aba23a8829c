# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks written over photos and given back are the same masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from maquette.core.errors import InputError
from maquette.core.images.load import open_photos
from maquette.core.images.mask_files import read_masks, save_masks
from maquette.core.images.undistort import undistort
from maquette.core.progress import Progress
from maquette.core.types import Camera
from PIL import Image


def test_round_trip_through_a_lens(tmp_path: Path) -> None:
    photos_folder = tmp_path / "photos"
    photos_folder.mkdir()
    Image.new("RGB", (800, 600), (90, 80, 70)).save(photos_folder / "IMG_1.jpg")
    photos = open_photos([photos_folder])
    camera = Camera(
        "IMG_1.jpg", 800, 600, 820.0, 826.0, 395.0, 306.0, np.eye(4), (-0.12, 0.03, 0.001, -0.001)
    )
    view = undistort(photos[0], camera, 400)
    rows, columns = np.mgrid[0:300, 0:400]
    mask = (np.hypot(columns - 300, rows - 90) < 60).astype(np.float32)  # near a corner, where the lens bends
    save_masks(tmp_path / "masks", [view], [mask], [camera])
    assert Image.open(tmp_path / "masks" / "IMG_1.png").size == (800, 600)
    given = read_masks(tmp_path / "masks", photos, Progress())
    again = undistort(photos[0], camera, 400, given["IMG_1.jpg"]).mask
    assert again is not None
    overlap = ((again > 0.5) & (mask > 0.5)).sum() / ((again > 0.5) | (mask > 0.5)).sum()
    assert overlap > 0.985
    unbent = undistort(photos[0], camera, 400, np.asarray(Image.fromarray(mask).resize((800, 600)))).mask
    assert unbent is not None
    wrong = ((unbent > 0.5) & (mask > 0.5)).sum() / ((unbent > 0.5) | (mask > 0.5)).sum()
    assert wrong < 0.97  # the lens matters here, so the test can fail


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
