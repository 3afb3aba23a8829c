# SPDX-License-Identifier: GPL-3.0-or-later
"""A face's crop and its camera back in the photo; what is no portrait is refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.fit.inversion import Portrait
from maquette.core.images.load import open_photos
from maquette.core.models.eg3d.cameras import camera_of
from maquette.core.models.heads.faces import Face, aligned_crop
from maquette.core.models.heads.parser import PARTS
from maquette.core.pipelines import portrait
from maquette.core.pipelines.head_model import find_head_model
from maquette.core.pipelines.portrait import (
    FoundPortrait,
    checked_face,
    crop_plane,
    found_portrait,
    given_mask,
    outlined,
)
from maquette.core.types import Photo
from PIL import Image

from tests.core.pipelines.small_heads import FILE


def test_the_crops_camera_and_the_photos_see_the_same() -> None:
    """A point that the crop's camera puts at a pixel lies in the photo where the crop was cut there."""
    face = Face(300.0, 220.0, 180.0, 12.0, 15.0, -5.0)
    photo = Photo("a.png", Path("a.png"), 640, 480)
    found = FoundPortrait(
        photo, face, Portrait(torch.zeros(1), torch.zeros(1)), *(np.zeros(1, np.float32),) * 3
    )
    label = torch.from_numpy(face.label)[None].clone()
    label[0, 16 + 2], label[0, 16 + 5], label[0, 16], label[0, 20] = 0.53, 0.48, 4.4, 4.4
    point = np.array([[0.1, -0.05, 0.25]])
    (u,), _ = camera_of(label[0].numpy(), 180).project(point)
    (x,), _ = found.camera(label).project(point)
    c, s = math.cos(math.radians(12)), math.sin(math.radians(12))
    expected = np.array([300, 220]) + np.array([[c, -s], [s, c]]) @ (u - 90)
    np.testing.assert_allclose(x, expected, atol=1e-3)
    plain = found.camera(torch.from_numpy(face.label)[None])
    other = face.camera("a.png", 640, 480)
    np.testing.assert_allclose(plain.cam_to_world, other.cam_to_world, atol=1e-6)
    assert (plain.fx, plain.cx, plain.cy) == pytest.approx((other.fx, other.cx, other.cy), abs=1e-3)


def test_planes_are_cropped_as_pictures_are() -> None:
    y, x = np.mgrid[:120, :160].astype(np.float32)
    plane = (0.5 + 0.3 * np.sin(x / 15) * np.cos(y / 11)).astype(np.float32)
    window = Face(70.0, 60.0, 64.0, 25.0, 0.0, 0.0)
    rgb = (np.repeat(plane[..., None], 3, 2) * 255 + 0.5).astype(np.uint8)
    np.testing.assert_allclose(
        crop_plane(plane, window, 64), aligned_crop(rgb, window, 64)[..., 0], atol=0.006
    )


def test_an_outline_follows_the_colours_and_a_curtain_is_no_hair() -> None:
    """Parts that are 5 pixels off, and say hair for the curtain at the right: the head is a disk of radius 60 at the middle."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:240, :320].astype(np.float32)
    head = np.hypot(x - 150, y - 120) < 60
    rgb = np.where(
        head[..., None], [0.8, 0.6, 0.5], np.where((x > 240)[..., None], [0.7, 0.1, 0.1], [0.3, 0.4, 0.6])
    )
    rgb = (rgb + rng.normal(0, 0.03, rgb.shape)).clip(0, 1).astype(np.float32)
    parts = np.full(head.shape, PARTS.index("background"), np.uint8)
    parts[np.hypot(x - 155, y - 118) < 58] = PARTS.index("skin")
    parts[x > 236] = PARTS.index("hair")
    found = outlined(rgb, parts, Face(150.0, 120.0, 200.0, 0.0, 0.0, 0.0)) > 0.5
    overlap = (found & head).sum() / (found | head).sum()
    coarse = parts != PARTS.index("background")
    assert (coarse & head).sum() / (coarse | head).sum() < 0.6
    assert overlap > 0.98
    assert not outlined(rgb, np.zeros_like(parts), Face(150.0, 120.0, 200.0, 0.0, 0.0, 0.0)).any()


def refused(rgb: np.ndarray, tmp_path: Path, **given: str) -> str:
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    with pytest.raises(InputError) as caught:
        found_portrait(
            open_photos([tmp_path / "photo.png"])[0],
            find_head_model(str(FILE)).open(torch.device("cpu")),
            **given,
        )
    return caught.value.code


def test_what_is_no_portrait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    grey = cv2.resize(noise, (300, 240), interpolation=cv2.INTER_CUBIC)
    assert refused(grey, tmp_path) == "NO_FACE"
    photo = Photo("a.png", Path("a.png"), 300, 240)
    for face, code in (
        (Face(100, 100, 120, 0, 60, 0), "FACE_PROFILE"),
        (Face(100, 100, 40, 0, 0, 0), "FACE_TOO_SMALL"),
    ):
        with pytest.raises(InputError) as caught:
            checked_face(face, photo, 300)
        assert caught.value.code == code
    assert checked_face(Face(100, 100, 40, 0, 0, 0), photo, 150).side == 40  # looked at in half its size
    first, second = Face(80, 100, 90, 0, 0, 0), Face(210, 110, 80, 0, 0, 0)
    from maquette.core.models.heads import faces

    monkeypatch.setattr(faces, "find_faces", lambda parser, rgb: [first, second])
    assert refused(grey, tmp_path) == "SEVERAL_FACES"
    monkeypatch.setattr(portrait, "portrait_face", lambda parser, rgb: first)
    Image.fromarray(np.zeros((240, 300), np.uint8)).save(tmp_path / "black.png")
    assert refused(grey, tmp_path, mask=str(tmp_path / "black.png")) == "HEAD_MASK_EMPTY"
    Image.fromarray(np.full((240, 240), 255, np.uint8)).save(tmp_path / "square.png")
    assert refused(grey, tmp_path, mask=str(tmp_path / "square.png")) == "HEAD_MASK_SIZE"


def test_a_masks_alpha_says_it_or_its_brightness(tmp_path: Path) -> None:
    photo = Photo("a.png", Path("a.png"), 20, 10)
    rgba = np.zeros((10, 20, 4), np.uint8)
    rgba[:5, :, 3] = 255  # black and opaque: painted on a dark picture
    Image.fromarray(rgba).save(tmp_path / "painted.png")
    Image.fromarray(np.where(np.arange(10)[:, None] < 5, 255, 0).repeat(20, 1).astype(np.uint8)).save(
        tmp_path / "white.png"
    )
    for name in ("painted.png", "white.png"):
        mask = given_mask(tmp_path / name, photo, (20, 10))
        assert mask[:5].min() == 1 and mask[5:].max() == 0
