# SPDX-License-Identifier: GPL-3.0-or-later
"""NeRF JSON and COLMAP files: lossless round trips, refusals by name, and agreement with pycolmap's own reader."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from maquette.core.cameras import colmap_files, nerf_json, rotations
from maquette.core.cameras.blender import from_blender, to_blender
from maquette.core.errors import InputError
from maquette.core.types import Camera, SparseCloud

POSED = Path(__file__).resolve().parents[4] / "shared" / "data" / "posed"
needs_data = pytest.mark.skipif(not POSED.is_dir(), reason="shared test data is absent")


def some_cameras() -> list[Camera]:
    random = np.random.default_rng(0)
    out = []
    for number in range(5):
        pose = np.eye(4)
        pose[:3, :3] = rotations.from_axis_angle(random.normal(size=3))
        pose[:3, 3] = random.normal(size=3)
        lens = (0.01 * number, -0.02, 0.001, 0.002) if number % 2 else (0.0, 0.0, 0.0, 0.0)
        name = f"sub folder/größe {number}.jpg"
        out.append(Camera(name, 640 + number, 480, 500.1, 501.2, 310.3, 240.4, pose, lens))
    return out


def some_cloud() -> SparseCloud:
    random = np.random.default_rng(1)
    return SparseCloud(random.normal(size=(20, 3)), random.integers(0, 256, (20, 3)).astype(np.uint8))


def assert_same(found: list[Camera], expected: list[Camera]) -> None:
    assert [c.name for c in found] == [c.name for c in expected]
    for a, b in zip(found, expected, strict=True):
        assert (a.width, a.height, a.distortion) == (b.width, b.height, b.distortion)
        assert (a.fx, a.fy, a.cx, a.cy) == (b.fx, b.fy, b.cx, b.cy)
        assert np.abs(a.cam_to_world - b.cam_to_world).max() < 1e-12


@pytest.mark.parametrize("write", [colmap_files.write_text, colmap_files.write_binary])
def test_colmap_round_trip(tmp_path: Path, write) -> None:
    write(tmp_path, some_cameras(), some_cloud())
    cameras, cloud = colmap_files.read(tmp_path)
    assert_same(cameras, some_cameras())
    assert np.array_equal(cloud.points, some_cloud().points)
    assert np.array_equal(cloud.colors, some_cloud().colors)


@pytest.mark.parametrize("write", [colmap_files.write_text, colmap_files.write_binary])
def test_pycolmap_reads_what_we_write(tmp_path: Path, write) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    expected = {c.name.replace(" ", "_"): c for c in some_cameras()}  # COLMAP's text reader stops at a space
    write(tmp_path, [replace(c, name=name) for name, c in expected.items()], some_cloud())
    model = pycolmap.Reconstruction(tmp_path)
    assert (model.num_reg_images(), model.num_points3D()) == (5, 20)
    for image in model.images.values():
        assert np.abs(image.cam_from_world().matrix() - expected[image.name].world_to_cam[:3]).max() < 1e-12


@pytest.mark.parametrize("suffix", ["text", "binary"])
def test_we_read_what_pycolmap_writes_with_tracks(tmp_path: Path, suffix: str) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_frames_per_rig, options.num_points3D = 2, 3, 50
    model = pycolmap.synthesize_dataset(options)
    getattr(model, f"write_{suffix}")(tmp_path)
    cameras, cloud = colmap_files.read(tmp_path)
    assert len(cameras) == model.num_reg_images() and len(cloud.points) == model.num_points3D()
    by_name = {image.name: image for image in model.images.values()}
    for camera in cameras:
        assert np.abs(by_name[camera.name].cam_from_world().matrix() - camera.world_to_cam[:3]).max() < 1e-9
    seen = sum(len(observers) for observers in cloud.observers)
    assert seen == sum(point.track.length() for point in model.points3D.values())


def test_colmap_models_by_hand() -> None:
    lens = colmap_files.lens_from_model
    assert lens("SIMPLE_PINHOLE", 8, 6, [5, 4, 3]) == (8, 6, 5, 5, 4, 3, (0, 0, 0, 0))
    assert lens("SIMPLE_RADIAL", 8, 6, [5, 4, 3, 0.1]) == (8, 6, 5, 5, 4, 3, (0.1, 0, 0, 0))
    assert lens("RADIAL", 8, 6, [5, 4, 3, 0.1, 0.2]) == (8, 6, 5, 5, 4, 3, (0.1, 0.2, 0, 0))
    assert lens("FULL_OPENCV", 8, 6, [5, 7, 4, 3, 0.1, 0.2, 0.3, 0.4, 0, 0, 0, 0])[2:4] == (5, 7)


@pytest.mark.parametrize("model", ["OPENCV_FISHEYE", "FOV", "THIN_PRISM_FISHEYE", "SOMETHING_NEW"])
def test_colmap_models_that_are_refused_are_named(tmp_path: Path, model: str) -> None:
    (tmp_path / "cameras.txt").write_text(f"1 {model} 640 480 {' '.join(['1'] * 12)}\n")
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a.jpg\n\n")
    with pytest.raises(InputError, match=model) as caught:
        colmap_files.read(tmp_path)
    assert caught.value.code == "CAMERA_MODEL"


def test_truncated_binary_is_a_typed_error(tmp_path: Path) -> None:
    colmap_files.write_binary(tmp_path, some_cameras())
    whole = (tmp_path / "images.bin").read_bytes()
    (tmp_path / "images.bin").write_bytes(whole[:100])
    with pytest.raises(InputError) as caught:
        colmap_files.read(tmp_path)
    assert caught.value.code == "CAMERAS_UNREADABLE"


def test_nerf_json_round_trip_with_grades_and_failures(tmp_path: Path) -> None:
    cameras = [
        replace(c, grade="doubtful", reason="few points") if i == 2 else c
        for i, c in enumerate(some_cameras())
    ]
    nerf_json.write(tmp_path / "t.json", cameras, {"bad.jpg": "no overlap"})
    found, failed = nerf_json.read(tmp_path / "t.json")
    assert_same(found, cameras)
    assert (found[2].grade, found[2].reason, failed) == ("doubtful", "few points", {"bad.jpg": "no overlap"})


def test_opencv_axes_by_hand_and_back(tmp_path: Path) -> None:
    nerf_json.write(tmp_path / "t.json", some_cameras(), {}, axes="opencv")
    text = json.loads((tmp_path / "t.json").read_text())
    assert text["axes"] == "opencv"
    assert text["frames"][1]["transform_matrix"] == some_cameras()[1].cam_to_world.tolist()
    assert_same(nerf_json.read(tmp_path / "t.json")[0], some_cameras())


def test_around_all_files_and_blender_a_point_stays_where_it_is(tmp_path: Path) -> None:
    """COLMAP text -> NeRF OpenCV -> COLMAP binary -> NeRF OpenGL -> Blender and back, for a photo of full resolution."""
    given = [
        replace(c, name=f"{n}.jpg", distortion=(0.0,) * 4).resized(6000 + n, 4000)
        for n, c in enumerate(some_cameras())
    ]
    colmap_files.write_text(tmp_path / "text", given)
    nerf_json.write(tmp_path / "cv.json", colmap_files.read(tmp_path / "text")[0], {}, axes="opencv")
    colmap_files.write_binary(tmp_path / "binary", nerf_json.read(tmp_path / "cv.json")[0])
    nerf_json.write(tmp_path / "gl.json", colmap_files.read(tmp_path / "binary")[0], {})
    last = [
        from_blender(to_blender(camera), camera.name) for camera in nerf_json.read(tmp_path / "gl.json")[0]
    ]
    points = np.random.default_rng(2).normal(size=(50, 3))
    for before, after in zip(given, last, strict=True):
        assert (after.name, after.width, after.height) == (before.name, before.width, before.height)
        numbers = [[c.fx, c.fy, c.cx, c.cy] for c in (before, after)]
        assert np.allclose(*numbers, rtol=1e-9, atol=0)
        assert np.abs(after.cam_to_world - before.cam_to_world).max() < 1e-9
        front = before.project(points)[1] > 0.2
        assert np.abs(before.project(points[front])[0] - after.project(points[front])[0]).max() < 1e-4


def write_json(path: Path, **changes) -> Path:
    frame = {"file_path": "./images/r_0", "transform_matrix": np.eye(4).tolist()}
    top = {"camera_angle_x": 2 * np.arctan(0.5), "w": 200, "h": 100}
    for key, value in changes.items():
        target = frame if key in ("transform_matrix", "fl_x", "cx", "grade") else top
        target[key] = value
    path.write_text(json.dumps({**{k: v for k, v in top.items() if v is not None}, "frames": [frame]}))
    return path


def test_field_of_view_and_axes_by_hand(tmp_path: Path) -> None:
    camera = nerf_json.read(write_json(tmp_path / "t.json"))[0][0]
    # tan(half angle) = 0.5: focal = 100 / 0.5; OpenGL looks along -z, so OpenCV's z axis is world -z
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (pytest.approx(200), pytest.approx(200), 100, 50)
    assert camera.cam_to_world[:3, 2].tolist() == [0, 0, -1] and camera.cam_to_world[:3, 1].tolist() == [
        0,
        -1,
        0,
    ]


def test_frame_values_win_over_top_values(tmp_path: Path) -> None:
    assert nerf_json.read(write_json(tmp_path / "t.json", fl_x=150.0, cx=90.0))[0][0].fx == 150.0


def test_size_comes_from_the_photo_where_the_file_has_none(tmp_path: Path) -> None:
    path = write_json(tmp_path / "t.json", w=None, h=None)
    assert nerf_json.read(path, {"./images/r_0": (400, 200)})[0][0].fx == pytest.approx(400)
    with pytest.raises(InputError) as caught:
        nerf_json.read(path)
    assert caught.value.code == "CAMERA_NO_SIZE"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"skew": 3.0}, "CAMERA_MODEL"),
        ({"k3": 0.1}, "CAMERA_MODEL"),
        ({"is_fisheye": True}, "CAMERA_MODEL"),
        ({"camera_model": "OPENCV_FISHEYE"}, "CAMERA_MODEL"),
        ({"camera_angle_x": None}, "CAMERA_NO_FOCAL"),
        ({"fl_x": float("nan")}, "CAMERA_NO_FOCAL"),
        ({"transform_matrix": np.diag([1.0, 1.0, -1.0, 1.0]).tolist()}, "CAMERA_NOT_RIGID"),
        ({"transform_matrix": [[1, 2], [3, 4]]}, "CAMERAS_UNREADABLE"),
        ({"transform_matrix": (np.eye(4) * np.nan).tolist()}, "CAMERAS_UNREADABLE"),
        ({"grade": "failed"}, "CAMERAS_EMPTY"),
        ({"axes": "vulkan"}, "CAMERAS_UNREADABLE"),
    ],
)
def test_bad_files_are_typed_errors(tmp_path: Path, changes: dict, code: str) -> None:
    with pytest.raises(InputError) as caught:
        nerf_json.read(write_json(tmp_path / "t.json", **changes))
    assert caught.value.code == code


def test_no_json_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("hello")
    with pytest.raises(InputError, match="JSON"):
        nerf_json.read(tmp_path / "t.json")


@needs_data
@pytest.mark.parametrize(("name", "count"), [("fox", 50), ("herzjesu_p8", 8), ("temple_sparse_ring", 16)])
def test_real_files(name: str, count: int) -> None:
    cameras, failed = nerf_json.read(POSED / name / "transforms.json")
    assert len(cameras) == count and not failed
