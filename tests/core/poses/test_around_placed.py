# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos that features lost are found again around those that are placed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from maquette.core.cameras.rotations import angle_deg
from maquette.core.poses import around_placed
from maquette.core.poses.around_placed import place_around
from maquette.core.types import Camera, Photo
from PIL import Image

from .test_alignment import CHAIR, look_at, photograph


def take(folder: Path, azimuths: list[float], heights: list[float]) -> tuple[list[Photo], list[Camera], dict]:
    """Photos of the chair before white, its middle at the origin, cameras 3.5 away."""
    chair = replace(CHAIR, vertices=CHAIR.vertices - np.array([0, 0, 0.6], np.float32))
    photos, cameras, outlines = [], [], {}
    for number, (azimuth, height) in enumerate(zip(azimuths, heights, strict=True)):
        name = f"{number:02d}.png"
        side = [np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)]
        camera = look_at(3.5 * np.array(side), (0, 0, 0), 140.0, (96, 96))
        picture, alpha = photograph(chair, camera, 1.0)
        Image.fromarray((picture * 255 + 0.5).astype(np.uint8)).save(folder / name)
        photos.append(Photo(name, folder / name, 96, 96))
        cameras.append(replace(camera, name=name))
        outlines[name] = alpha
    return photos, cameras, outlines


@pytest.mark.slow
def test_the_far_side_is_found_from_photos_of_the_near_side(tmp_path: Path, monkeypatch) -> None:
    """Nine cameras over 200 degrees are known, three on the other side are not: all within three degrees of the truth."""
    for name, value in {
        "SIDE": 64,
        "STARTS": 2,
        "FINER": ((16, 24, 40), (32, 40, 120), (64, 56, 80)),
    }.items():
        monkeypatch.setattr(around_placed, name, value)
    azimuths = [*np.radians(np.linspace(-100, 100, 9)), *np.radians([135.0, 180.0, 228.0])]
    heights = list(np.radians([20, 45, 25, 50, 30, 40, 20, 55, 35, 30, 45, 25]))
    photos, cameras, outlines = take(tmp_path, azimuths, heights)
    placed = {photo.name: photo for photo in photos}
    found = place_around(photos[9:], placed, cameras[:9], outlines, lambda: None)
    assert set(found) == {photo.name for photo in photos[9:]}
    for camera in cameras[9:]:
        turn = camera.cam_to_world[:3, :3].T @ found[camera.name].cam_to_world[:3, :3]
        assert float(angle_deg(turn)) < 3.0, camera.name
        assert np.linalg.norm(found[camera.name].centre - camera.centre) < 0.05 * 3.5


def test_too_few_placed_photos_hold_nothing(tmp_path: Path) -> None:
    photos, cameras, outlines = take(tmp_path, [0.0, 1.0, 2.0], [0.5, 0.5, 0.5])
    assert place_around(photos[2:], {p.name: p for p in photos}, cameras[:2], outlines, lambda: None) == {}
