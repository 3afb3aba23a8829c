# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras that the artist gives: matched by name, fitted to the photo's size, refused when they belong to other photos."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from maquette.core.cameras import colmap_files, nerf_json
from maquette.core.errors import InputError
from maquette.core.poses.given import given_cameras
from maquette.core.results import Result, SceneCamera, write_scene
from maquette.core.types import Camera, Photo, SparseCloud


def photo(path: str, name: str = "", width: int = 640, height: int = 480, orientation: int = 1) -> Photo:
    return Photo(name or Path(path).name, Path(path), width, height, exif_orientation=orientation)


def camera(name: str, shift: float = 0.0) -> Camera:
    pose = np.eye(4)
    pose[0, 3] = shift
    return Camera(name, 640, 480, 500, 510, 310, 250, pose, (0.01, 0, 0, 0))


def write(path: Path, names: list[str], failed: dict[str, str] | None = None) -> Path:
    nerf_json.write(path, [camera(name, number) for number, name in enumerate(names)], failed or {})
    return path


def test_cameras_follow_the_photos_order_and_missing_ones_are_named(tmp_path: Path) -> None:
    file = write(tmp_path / "t.json", ["images/a.jpg", "images/b.jpg"], {"c.jpg": "blurred"})
    found = given_cameras(file, [photo("/p/d.jpg"), photo("/p/b.jpg"), photo("/p/c.jpg"), photo("/p/a.jpg")])
    assert [c.name for c in found.cameras] == ["b.jpg", "a.jpg"]
    assert [c.cam_to_world[0, 3] for c in found.cameras] == [1, 0]
    assert found.failed == {"d.jpg": "has no camera in the file", "c.jpg": "blurred"}
    assert (found.method, found.metrics["registered"]) == ("given", 2)


def test_missing_and_other_suffixes_match_by_stem(tmp_path: Path) -> None:
    file = write(tmp_path / "t.json", ["./images/r_0", "r_1.png", "IMG.001"])
    found = given_cameras(file, [photo("/p/r_0.png"), photo("/p/R_1.JPG"), photo("/p/img.001.jpg")])
    assert len(found.cameras) == 3


def test_same_names_in_two_folders_are_told_apart_by_the_folders(tmp_path: Path) -> None:
    file = write(tmp_path / "t.json", ["left/0.jpg", "right/0.jpg"])
    found = given_cameras(file, [photo("/p/right/0.jpg"), photo("/p/left/0.jpg", "0-2.jpg")])
    assert [(c.name, c.cam_to_world[0, 3]) for c in found.cameras] == [("0.jpg", 1), ("0-2.jpg", 0)]


def test_undecidable_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        given_cameras(
            write(tmp_path / "t.json", ["0.jpg"]), [photo("/p/a/0.jpg"), photo("/p/b/0.jpg", "0-2.jpg")]
        )
    assert caught.value.code == "CAMERA_AMBIGUOUS"


def test_camera_of_a_smaller_picture_is_scaled_to_the_photo(tmp_path: Path) -> None:
    found = given_cameras(write(tmp_path / "t.json", ["a.jpg"]), [photo("/p/a.jpg", width=2560, height=1920)])
    result = found.cameras[0]
    assert (result.width, result.height, result.fx, result.cy) == (2560, 1920, 2000, 1000)
    assert result.distortion == (0.01, 0, 0, 0)


def test_camera_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        given_cameras(write(tmp_path / "t.json", ["a.jpg"]), [photo("/p/a.jpg", width=640, height=640)])
    assert caught.value.code == "CAMERA_OTHER_SIZE"


def test_camera_of_the_stored_picture_is_turned_with_exif(tmp_path: Path) -> None:
    upright = photo("/p/a.jpg", width=480, height=640, orientation=6)
    result = given_cameras(write(tmp_path / "t.json", ["a.jpg"]), [upright]).cameras[0]
    assert (result.width, result.height, result.fx, result.fy, result.cx, result.cy) == (
        480,
        640,
        510,
        500,
        230,
        310,
    )


def test_sizes_come_from_the_photos_where_the_file_has_none(tmp_path: Path) -> None:
    frames = [{"file_path": f"./r_{i}", "transform_matrix": np.eye(4).tolist()} for i in range(3)]
    file = tmp_path / "transforms.json"
    file.write_text(json.dumps({"camera_angle_x": 2 * np.arctan(0.5), "frames": frames}))
    found = given_cameras(tmp_path, [photo("/p/r_1.png", width=200, height=100)])
    assert found.cameras[0].fx == pytest.approx(200)


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        given_cameras(write(tmp_path / "t.json", ["a.jpg"]), [photo("/p/b.jpg")])
    assert caught.value.code == "CAMERAS_NO_MATCH"
    with pytest.raises(InputError) as caught:
        given_cameras(tmp_path / "none.json", [photo("/p/b.jpg")])
    assert caught.value.code == "CAMERAS_NOT_FOUND"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        given_cameras(tmp_path / "empty", [photo("/p/b.jpg")])
    assert caught.value.code == "CAMERAS_NOT_FOUND"


def test_colmap_folder_with_points(tmp_path: Path) -> None:
    cloud = SparseCloud(np.arange(6.0).reshape(2, 3), np.zeros((2, 3), np.uint8))
    colmap_files.write_text(
        tmp_path / "sparse" / "0", [camera("a.jpg"), replace(camera("b.jpg"), width=640)], cloud
    )
    found = given_cameras(tmp_path, [photo("/p/b.jpg")])
    assert [c.name for c in found.cameras] == ["b.jpg"] and found.cloud.points.shape == (2, 3)
    assert given_cameras(tmp_path / "sparse" / "0" / "cameras.txt", [photo("/p/b.jpg")]).cameras[0].fx == 500


def test_cameras_of_an_earlier_result_bring_their_world_and_points_along(tmp_path: Path) -> None:
    """Bit for bit, so that the stages behind them are found in the cache."""
    world = np.diag([0.3, 0.3, 0.3, 1.0])
    world[:3, 3] = 0.1, 0.2, 0.3
    solved = camera("a.jpg", 1 / 3)
    points = np.random.default_rng(0).normal(size=(5, 3))
    cloud = SparseCloud(points, np.full((5, 3), 7, np.uint8))
    folder = tmp_path / "result"
    folder.mkdir()
    colmap_files.write_text(folder / "cameras", [solved], cloud)
    result = Result("x", "photos", cameras=[SceneCamera(solved)], failed={"c.jpg": "blurred"})
    result.world_from_result = world
    write_scene(folder, result)
    found = given_cameras(folder, [photo("/p/a.jpg"), photo("/p/c.jpg")])
    assert found.world is not None and np.array_equal(found.world, world)
    assert np.array_equal(found.cameras[0].cam_to_world, solved.cam_to_world)
    assert found.cameras[0].distortion == solved.distortion and found.cloud.points.tolist() == points.tolist()
    assert found.failed == {"c.jpg": "blurred"}
