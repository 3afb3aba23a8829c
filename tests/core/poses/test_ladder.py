# SPDX-License-Identifier: GPL-3.0-or-later
"""Every run ends with cameras and reasons: bad input, rungs below structure from motion, hints, the basic method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from maquette.core.cameras import rotations
from maquette.core.cameras.conventions import move_camera
from maquette.core.errors import InputError, MissingError
from maquette.core.images.video import extract_frames, is_video
from maquette.core.poses import structure_from_motion
from maquette.core.poses.approximate import Approximation, improved_by_matches
from maquette.core.poses.hint import follow_hint
from maquette.core.poses.ladder import _completed, find_cameras
from maquette.core.poses.structure_from_motion import solve
from maquette.core.progress import Progress
from maquette.core.types import Camera, Photo, PoseEstimate, SparseCloud
from PIL import Image

from .corner import FOCAL, cameras, shoot
from .test_structure_from_motion import worst_turn

pytest.importorskip("pycolmap")


def find(photos: list[Photo], folder: Path, **options) -> PoseEstimate:
    return find_cameras(photos, None, Progress(), folder / "work", "draft", **options)


def assert_only_assumed(found: PoseEstimate, count: int, words: str) -> None:
    assert (len(found.cameras), found.grade, found.failed) == (count, "D", {})
    assert all(c.grade == "doubtful" and words in c.reason for c in found.cameras), found.cameras[0].reason
    assert found.advice


def test_one_photo_has_an_assumed_camera_that_sees_the_ball_on_the_floor(tmp_path: Path) -> None:
    found = find(shoot(tmp_path, cameras(1)), tmp_path)
    assert_only_assumed(found, 1, "one photo")
    pixel, depth = found.cameras[0].project(np.array([[0, 0, 0.5]]))
    assert np.allclose(pixel, [[180, 135]]) and depth[0] > 1
    assert found.cameras[0].centre[1] < 0  # the front looks towards -Y


def test_identical_photos(tmp_path: Path) -> None:
    photo = shoot(tmp_path, cameras(1))[0]
    found = find([replace(photo, name=f"{n}.png") for n in range(3)], tmp_path)
    assert_only_assumed(found, 3, "same picture")


@pytest.mark.parametrize(("kind", "words"), [("strangers", "overlap"), ("blank", "texture")])
def test_photos_without_a_model_stand_on_a_ring(tmp_path: Path, kind: str, words: str) -> None:
    photos = []
    for n in range(4):
        if kind == "strangers":
            photos.append(replace(shoot(tmp_path / str(n), cameras(1), seed=n)[0], name=f"{n}.png"))
        else:
            Image.new("RGB", (320, 240), (100, 100, 90 + 40 * n)).save(tmp_path / f"{n}.png")
            photos.append(Photo(f"{n}.png", tmp_path / f"{n}.png", 320, 240))
    found = find(photos, tmp_path)
    assert_only_assumed(found, 4, words)
    step = found.cameras[0].cam_to_world[:3, :3].T @ found.cameras[1].cam_to_world[:3, :3]
    assert rotations.angle_deg(step) == pytest.approx(90)  # a quarter of the way around


def test_camera_that_only_turned_keeps_its_directions(tmp_path: Path) -> None:
    centre = cameras(1)[0]
    views = []
    for n in range(5):
        pose = centre.cam_to_world.copy()
        pose[:3, :3] = rotations.from_axis_angle([0, 0, 0.12 * (n - 2)]) @ pose[:3, :3]
        views.append(replace(centre, name=f"{n}.png", cam_to_world=pose))
    found = find(shoot(tmp_path, views), tmp_path)
    assert_only_assumed(found, 5, "only turned")
    assert found.method == "turned" and worst_turn(found.cameras, views) < 2.0
    assert all(np.array_equal(c.centre, found.cameras[0].centre) for c in found.cameras)


def test_panorama_has_no_camera_and_says_so(tmp_path: Path) -> None:
    photo = shoot(tmp_path, cameras(1))[0]
    Image.new("RGB", (900, 300)).save(tmp_path / "wide.png")
    (tmp_path / "sphere.jpg").write_bytes(b"GPano:ProjectionType" + photo.path.read_bytes())
    wide = Photo("wide.png", tmp_path / "wide.png", 900, 300)
    sphere = Photo("sphere.jpg", tmp_path / "sphere.jpg", 360, 270)
    found = find([photo, wide, sphere], tmp_path)
    assert len(found.cameras) == 1 and set(found.failed) == {"wide.png", "sphere.jpg"}
    assert all("panorama" in reason for reason in found.failed.values())
    with pytest.raises(InputError) as caught:
        find([wide, sphere], tmp_path)
    assert caught.value.code == "PANORAMA"


def test_absurd_focal_length_in_exif_is_left_aside(tmp_path: Path) -> None:
    truth = cameras(6, 50)
    photos = [replace(photo, focal_px=5 * FOCAL) for photo in shoot(tmp_path, truth)]
    found = find(photos, tmp_path)
    assert len(found.cameras) == 6 and worst_turn(found.cameras, truth) < 1.0
    assert found.cameras[0].fx == pytest.approx(FOCAL, rel=0.05)


def test_gap_in_a_sequence_is_named(tmp_path: Path) -> None:
    truth = cameras(6, 50)
    other = [replace(camera, name=f"far{n}.png") for n, camera in enumerate(cameras(4, 30))]
    found = find([*shoot(tmp_path, truth), *shoot(tmp_path, other, seed=5)], tmp_path)
    assert [camera.name for camera in found.cameras] == [camera.name for camera in truth]
    assert set(found.failed) == {camera.name for camera in other}
    assert all("gap" in reason for reason in found.failed.values())


def test_video_becomes_its_sharpest_frames(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 255, (30, 100, 3), dtype=np.uint8)
    texture = cv2.resize(coarse, (400, 120), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(tmp_path / "walk.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 120))
    for n in range(60):
        frame = texture[:, 4 * n : 4 * n + 160]
        writer.write(frame if n % 5 == 2 else cv2.GaussianBlur(frame, (0, 0), 3))
    writer.release()
    frames = extract_frames(tmp_path / "walk.avi", tmp_path / "frames", Progress())
    assert is_video(tmp_path / "walk.avi") and len(frames) == 12
    for n, frame in enumerate(frames):  # six seconds, two frames a second, the third of every five is sharp
        shown = cv2.imread(str(frame)).astype(float)
        assert np.abs(shown - texture[:, 4 * (5 * n + 2) : 4 * (5 * n + 2) + 160]).mean() < 12
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(InputError) as caught:
        extract_frames(tmp_path / "clip.mp4", tmp_path / "frames", Progress())
    assert caught.value.code == "VIDEO_UNREADABLE" and "ffmpeg" in caught.value.remedy


def estimate_of(views: list[Camera]) -> PoseEstimate:
    return PoseEstimate(views, {}, SparseCloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8)), "sfm", "A")


def similarity() -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = 2.5 * rotations.from_axis_angle([0.3, -0.2, 1.0])
    out[:3, 3] = 4.0, -3.0, 0.5
    return out


def test_two_hints_fix_the_world() -> None:
    views = cameras(5)
    hint = [move_camera(views[n], similarity()) for n in (1, 3)]
    found = follow_hint(estimate_of(views), hint)
    assert found.world is not None and np.allclose(found.world, similarity(), atol=1e-6)


def test_one_hint_fixes_place_and_turn_and_a_hinted_photo_without_camera_gets_it() -> None:
    views = cameras(5)
    hint = [move_camera(views[n], similarity()) for n in (1, 4)]
    start = replace(estimate_of(views[:4]), failed={views[4].name: "shares too little view with the others"})
    found = follow_hint(start, hint)
    assert found.world is not None
    placed = move_camera(views[1], found.world)
    assert np.allclose(placed.cam_to_world, hint[0].cam_to_world, atol=1e-9)
    assert not found.failed and "by hand" in found.cameras[4].reason
    assert np.allclose(move_camera(found.cameras[4], found.world).cam_to_world, hint[1].cam_to_world)


def test_rough_cameras_become_exact_by_the_matches(tmp_path: Path) -> None:
    truth = cameras(6, 50)
    photos = shoot(tmp_path, truth)
    solution = solve(photos, None, Progress(), tmp_path / "work", "draft")
    draw = np.random.default_rng(0)
    rough = {}
    for camera in truth:
        pose = camera.cam_to_world.copy()
        pose[:3, :3] = rotations.from_axis_angle(draw.normal(0, 0.01, 3)) @ pose[:3, :3]
        pose[:3, 3] += draw.normal(0, 0.03, 3)
        rough[camera.name] = replace(camera, cam_to_world=pose, fx=1.05 * FOCAL, fy=1.05 * FOCAL)
    assert worst_turn(list(rough.values()), truth) > 1.0
    start = replace(solution, found=replace(solution.found, models=[]))
    found = improved_by_matches(photos, start, Approximation(rough, "learned", "", True), 0, lambda: None)
    assert found is not None and len(found.cameras) == 6 and found.metrics["mapper"] == "learned"
    assert worst_turn(found.cameras, truth) < 0.5


def test_network_stands_in_where_features_fail(tmp_path: Path) -> None:
    photos = []
    for n in range(3):
        Image.new("RGB", (360, 270), (100, 100, 90 + 40 * n)).save(tmp_path / f"{n:02d}.png")
        photos.append(Photo(f"{n:02d}.png", tmp_path / f"{n:02d}.png", 360, 270))
    truth = cameras(3)
    found = find(photos, tmp_path, learned=lambda _: {camera.name: camera for camera in truth})
    assert (found.grade, found.method) == ("C", "learned") and worst_turn(found.cameras, truth) < 1e-6
    assert all(c.grade == "doubtful" and "network" in c.reason for c in found.cameras)


def test_rough_cameras_that_contradict_the_features_are_not_used() -> None:
    views = cameras(6)
    found = replace(estimate_of(views[:5]), failed={views[5].name: "shares too little view with the others"})
    photos = [Photo(camera.name, Path(camera.name), camera.width, camera.height) for camera in views]
    moved = {camera.name: move_camera(camera, similarity()) for camera in views}
    completed = _completed(photos, found, Approximation(moved, "outlines", "was placed by its outline", True))
    assert completed is not None and worst_turn(completed.cameras, views) < 1e-6
    assert completed.cameras[5].grade == "doubtful" and completed.grade == "C" and not completed.failed
    mixed = {
        a.name: replace(b, name=a.name)
        for a, b in zip(views, np.roll(np.array(views, object), 3), strict=True)
    }
    turned = {
        name: replace(
            c, cam_to_world=c.cam_to_world @ np.diag([-1.0, -1.0, 1.0, 1.0]) if n % 2 else c.cam_to_world
        )
        for n, (name, c) in enumerate(mixed.items())
    }
    assert _completed(photos, found, Approximation(turned, "outlines", "", True)) is None


def test_basic_method_takes_over_without_pycolmap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MissingError("SFM_MISSING", "", "")

    monkeypatch.setattr(structure_from_motion, "run_sfm", missing)
    truth = cameras(6, 50)
    found = find(shoot(tmp_path, truth), tmp_path)
    assert len(found.cameras) == 6 and worst_turn(found.cameras, truth) < 0.5
    assert found.cameras[0].fx == pytest.approx(FOCAL, rel=0.03)
