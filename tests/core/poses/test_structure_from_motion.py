# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras of small rendered photos, found without their truth; sets that must be refused; a child that dies or hangs."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from maquette.core.cameras import rotations
from maquette.core.errors import Cancelled, FailedError, InputError
from maquette.core.poses import sfm_process
from maquette.core.poses.structure_from_motion import LONG_SIDE, estimate
from maquette.core.progress import Progress
from maquette.core.types import Camera, Photo, PoseEstimate
from PIL import Image

from .corner import FOCAL, cameras, shoot

pytest.importorskip("pycolmap")


def find(photos: list[Photo], folder: Path, **options) -> PoseEstimate:
    return estimate(photos, None, options.pop("progress", Progress()), folder / "work", "draft", **options)


def worst_turn(found: list[Camera], truth: list[Camera]) -> float:
    """Largest error of a relative rotation, degrees."""
    true = {camera.name: camera for camera in truth}
    errors = []
    for a in found:
        for b in found:
            here = a.cam_to_world[:3, :3].T @ b.cam_to_world[:3, :3]
            there = true[a.name].cam_to_world[:3, :3].T @ true[b.name].cam_to_world[:3, :3]
            errors.append(float(rotations.angle_deg(here.T @ there)))
    return max(errors)


def test_corner_with_a_stranger_and_a_repeated_photo(tmp_path: Path) -> None:
    truth = cameras(6, 50)
    photos = shoot(tmp_path / "größe 1", truth)
    stranger = shoot(tmp_path / "other", [replace(truth[2], name="stranger.png")], seed=7)
    Image.open(photos[3].path).save(tmp_path / "again.jpg", quality=95)
    repeat = Photo("again.jpg", tmp_path / "again.jpg", photos[3].width, photos[3].height)
    found = find([*photos, *stranger, repeat], tmp_path)
    assert [c.name for c in found.cameras] == [c.name for c in truth] + ["again.jpg"]
    assert set(found.failed) == {"stranger.png"} and "no view" in found.failed["stranger.png"]
    assert worst_turn(found.cameras[:6], truth) < 0.5
    assert np.array_equal(found.cameras[6].cam_to_world, found.cameras[3].cam_to_world)
    assert found.cameras[0].fx == pytest.approx(FOCAL, rel=0.03)
    assert all(camera.grade == "good" for camera in found.cameras)
    assert found.metrics["photo_check"] > 0.3 and found.metrics["matches_explained"] > 0.9
    assert len(found.cloud.points) > 200 and max(o.max() for o in found.cloud.observers) < 7
    assert any("stranger.png" in text for text in found.advice)
    assert not (tmp_path / "work" / "sfm").exists()


def test_same_seed_gives_the_same_cameras(tmp_path: Path) -> None:
    photos = shoot(tmp_path, cameras(4, 30))
    first, second = (find(photos, tmp_path, seed=3) for _ in range(2))
    for a, b in zip(first.cameras, second.cameras, strict=True):
        assert (
            np.abs(a.cam_to_world - b.cam_to_world).max() < 2e-3
        )  # of the cameras' spread: the mappers run in threads


def test_two_photos_give_doubtful_cameras(tmp_path: Path) -> None:
    truth = cameras(2, 14)
    found = find(shoot(tmp_path, truth), tmp_path)
    assert len(found.cameras) == 2 and worst_turn(found.cameras, truth) < 3
    assert {camera.grade for camera in found.cameras} == {"doubtful"}
    assert "two photos" in found.cameras[0].reason


def test_cameras_are_in_pixels_of_the_photo_not_of_its_working_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LONG_SIDE, "draft", 240)
    truth = cameras(4, 30)
    found = find(shoot(tmp_path, truth), tmp_path)
    assert (found.cameras[0].width, found.cameras[0].height) == (360, 270)
    assert found.cameras[0].fx == pytest.approx(FOCAL, rel=0.05)
    assert found.cameras[0].cx == pytest.approx(180, abs=6)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("one", "ONE_PHOTO"),
        ("repeats", "DUPLICATES_ONLY"),
        ("strangers", "NO_OVERLAP"),
        ("blank", "LOW_TEXTURE"),
    ],
)
def test_sets_without_cameras_are_refused(tmp_path: Path, kind: str, code: str) -> None:
    photos = shoot(tmp_path, cameras(1))
    if kind == "repeats":
        photos = [replace(photos[0], name=f"{n}.png") for n in range(3)]
    elif kind == "strangers":
        photos = [shoot(tmp_path / str(n), cameras(1), seed=n)[0] for n in range(3)]
        photos = [replace(photo, name=f"{n}.png") for n, photo in enumerate(photos)]
    elif kind == "blank":
        photos = []
        for n in range(3):
            Image.new("RGB", (320, 240), (100, 100, 90 + 40 * n)).save(tmp_path / f"blank{n}.png")
            photos.append(Photo(f"blank{n}.png", tmp_path / f"blank{n}.png", 320, 240))
    with pytest.raises(InputError) as caught:
        find(photos, tmp_path)
    assert caught.value.code == code


def test_turning_on_the_spot_is_recognised(tmp_path: Path) -> None:
    centre = cameras(1)[0]
    views = []
    for n in range(5):
        pose = centre.cam_to_world.copy()
        pose[:3, :3] = rotations.from_axis_angle([0, 0, 0.12 * (n - 2)]) @ pose[:3, :3]
        views.append(replace(centre, name=f"{n}.png", cam_to_world=pose))
    with pytest.raises(InputError) as caught:
        find(shoot(tmp_path, views), tmp_path)
    assert caught.value.code == "NO_PARALLAX"


def with_child(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    (folder / "child.py").write_text(code)
    monkeypatch.setattr(sfm_process, "_CHILD", folder / "child.py")


def test_abort_of_the_child_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_child(monkeypatch, tmp_path, "import os, sys\nprint('deep trouble', file=sys.stderr)\nos.abort()\n")
    with pytest.raises(FailedError) as caught:
        find(shoot(tmp_path, cameras(2)), tmp_path)
    assert caught.value.code == "SFM_CRASHED"


def test_hanging_child_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_child(monkeypatch, tmp_path, "import time\ntime.sleep(60)\n")
    monkeypatch.setattr("maquette.core.poses.structure_from_motion.LIMIT_S", 0.5)
    with pytest.raises(FailedError) as caught:
        find(shoot(tmp_path, cameras(2)), tmp_path)
    assert caught.value.code == "SFM_TIMEOUT"


def test_cancel_ends_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "alive"
    with_child(monkeypatch, tmp_path, f"import time\ntime.sleep(1.5)\nopen({str(marker)!r}, 'w')\n")
    stop = threading.Event()
    threading.Timer(0.7, stop.set).start()
    with pytest.raises(Cancelled):
        find(shoot(tmp_path, cameras(2)), tmp_path, progress=Progress(is_cancelled=stop.is_set))
    threading.Event().wait(1.2)
    assert not marker.exists()
