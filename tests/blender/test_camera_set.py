# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras of many photos: Estimate Poses, Animated Camera, Orient and View Through Photo; the engine is a stand-in."""

from __future__ import annotations

from pathlib import Path

import bmesh
import bpy
import numpy as np
import pytest
from mathutils import Matrix

from tests.blender.ball import take_cameras, world_from_ball, write_take

FRAMES = (2, 4, 5, 6, 9, 14)


@pytest.fixture
def take(module, tmp_path):
    return write_take(tmp_path / "take", module, FRAMES)


@pytest.fixture
def solved(take, scene):
    """The imported take."""
    bpy.ops.maquette.import_result(directory=str(take))
    bpy.context.view_layer.update()
    return next(item for item in scene.objects if item.maquette.schema and item.type == "EMPTY")


def test_photos_become_cameras_and_points(take, engine, photos, scene, monkeypatch):
    monkeypatch.setenv("MAQUETTE_TEST_TAKE", str(take))
    with pytest.raises(RuntimeError, match="Add photos to the list first"):
        bpy.ops.maquette.estimate_poses()
    bpy.ops.maquette.add_photos(source="FILES", **photos("shot_002.png", "shot_004.png"))
    assert bpy.ops.maquette.estimate_poses() == {"FINISHED"}
    cameras = {item.name: item.data.maquette for item in scene.objects if item.type == "CAMERA"}
    assert sorted(cameras) == [f"shot_{frame:03d}" for frame in FRAMES]
    assert (cameras["shot_004"].grade, cameras["shot_004"].reason) == ("doubtful", "few matches")
    assert cameras["shot_002"].reprojection_px == pytest.approx(0.4)
    assert all(bpy.data.objects[name].data.background_images[0].image.packed_file for name in cameras)
    cloud = next(item for item in scene.objects if item.type in ("MESH", "POINTCLOUD"))
    assert cloud.type == ("POINTCLOUD" if bpy.app.version >= (4, 5, 0) else "MESH")
    assert cloud.parent is not None and "color" in cloud.data.attributes
    assert len(cloud.data.attributes["position"].data) == 400 + 81
    kept = next(item for item in scene.objects if item.type == "EMPTY").maquette
    assert "shares too little" in kept.failed


def test_one_photo_is_refused(engine, photos, scene):
    bpy.ops.maquette.add_photos(source="FILES", **photos("one.png"))
    with pytest.raises(RuntimeError, match="One photo does not tell"):
        bpy.ops.maquette.estimate_poses()


def test_a_sequence_becomes_one_moving_camera(solved, scene, module):
    assert bpy.ops.maquette.animated_camera() == {"FINISHED"}
    camera = bpy.context.view_layer.objects.active
    assert scene.camera == camera
    assert (scene.frame_start, scene.frame_end) == (2, 14)
    assert (scene.render.resolution_x, scene.render.resolution_y) == (64, 48)
    read, points = module("operators.cameras").read_camera, np.random.default_rng(1).normal(size=(20, 3))
    world = world_from_ball()
    placed = points @ world[:3, :3].T + world[:3, 3]
    for truth, frame in zip(take_cameras(module("core.types"), FRAMES), FRAMES, strict=True):
        scene.frame_set(frame)
        assert np.abs(read(camera).project(placed)[0] - truth.project(points)[0]).max() < 0.01
    before = None
    for step in np.arange(2, 14, 0.25):  # never the long way round, in gaps neither
        scene.frame_set(int(step), subframe=float(step % 1))
        turn = camera.matrix_world.to_quaternion()
        if before is not None:
            angle = np.degrees(before.rotation_difference(turn).angle) % 360
            assert min(angle, 360 - angle) < 20
        before = turn
    shown = camera.data.background_images
    assert len(shown) == 1
    assert shown[0].image.source == "SEQUENCE"
    user = shown[0].image_user
    assert (user.frame_start, user.frame_duration, user.frame_offset) == (2, 13, 1)
    assert Path(bpy.path.abspath(shown[0].image.filepath)).name == "shot_002.png"
    assert len(module("operators.cameras").cameras_of(solved)) == len(FRAMES)  # the new one is no photo's


def test_gaps_are_told(module):
    told = module("operators.animated_camera").told(list(FRAMES))
    assert told == "6 keyframes from 2 to 14; without a camera, and passed over smoothly: 7 frames"
    assert module("operators.animated_camera").told([1, 2, 4]).endswith("passed over smoothly: 3")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a_9.jpg", "a_10.jpg"], [9, 10]),
        (["take2_0001_left.png", "take2_0003_left.png"], [1, 3]),
        (["a_1.jpg", "b_2.jpg"], "differ in more than one number"),
        (["front.jpg", "back.jpg"], "front.jpg has no number"),
        (["a_1.jpg", "a_01.jpg"], "differ in more than one number"),
    ],
)
def test_numbers_of_frames(names, expected, module):
    numbers, error = module("operators.animated_camera").frame_numbers, module("core.errors").InputError
    if isinstance(expected, str):
        with pytest.raises(error, match=expected):
            numbers(names)
    else:
        assert list(numbers(names).values()) == expected


def relative(root):
    return [np.array(root.matrix_world.inverted() @ child.matrix_world) for child in root.children]


def test_upright_by_cameras_and_floor(solved, scene):
    """The take's floor is z = -1 in its own frame, its cameras stand level above it; the result lies askew."""
    solved.matrix_world = (
        Matrix.Rotation(1.1, 4, (1, 2, 0)) @ Matrix.Translation((5, 4, 3)) @ solved.matrix_world
    )
    bpy.context.view_layer.update()
    before = relative(solved)
    assert bpy.ops.maquette.orient(method="CAMERAS") == {"FINISHED"}
    bpy.context.view_layer.update()
    up = np.array(solved.matrix_world.to_3x3() @ Matrix.Identity(3).col[2])
    assert up[2] / np.linalg.norm(up) > np.cos(np.radians(0.2))
    assert abs((solved.matrix_world @ Matrix.Translation((0.3, 0.2, -1))).translation.z) < 0.01
    assert np.allclose(before, relative(solved), atol=1e-4)  # only the solved moved
    scale = solved.matrix_world.to_scale()
    assert np.allclose(scale, 0.5, atol=1e-5)  # size is not its business


def test_floor_by_three_points_and_size_by_two(solved, scene):
    places = [(0, 0, 0.4), (1, 0, 0.6), (0, 1, 0.5)]
    empties = []
    for place in places:
        point = bpy.data.objects.new("Point", None)
        scene.collection.objects.link(point)
        point.parent, point.matrix_world = solved, Matrix.Translation(place)
        empties.append(point)
    bpy.context.view_layer.update()
    for item in scene.objects:
        item.select_set(item in empties)
    bpy.context.view_layer.objects.active = empties[0]
    above = np.mean([item.matrix_world.translation.z for item in solved.children if item.type == "CAMERA"])
    assert bpy.ops.maquette.orient(method="FLOOR") == {"FINISHED"}
    bpy.context.view_layer.update()
    heights = [item.matrix_world.translation.z for item in empties]
    assert np.abs(heights).max() < 1e-5
    cameras = [item.matrix_world.translation.z for item in solved.children if item.type == "CAMERA"]
    assert np.mean(cameras) > 0 and above is not None
    with pytest.raises(RuntimeError, match="3 points are selected; 2 are needed"):
        bpy.ops.maquette.orient(method="LENGTH")
    empties[2].select_set(False)
    assert bpy.ops.maquette.orient(method="LENGTH", length=5.0) == {"FINISHED"}
    bpy.context.view_layer.update()
    a, b = (item.matrix_world.translation for item in empties[:2])
    assert (a - b).length == pytest.approx(5.0, rel=1e-5)
    assert abs(a.z) < 1e-4  # what lay on the ground lies there still


def test_floor_by_vertices_in_edit_mode(ball_result, scene):
    bpy.ops.maquette.import_result(directory=str(ball_result))
    mesh = bpy.context.view_layer.objects.active
    bpy.context.view_layer.update()
    chosen = [10, 500, 5000]
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_mode(type="VERT")
    bpy.ops.mesh.select_all(action="DESELECT")
    edited = bmesh.from_edit_mesh(mesh.data)
    edited.verts.ensure_lookup_table()
    for index in chosen:
        edited.verts[index].select_set(True)
    bmesh.update_edit_mesh(mesh.data)
    assert bpy.ops.maquette.orient(method="FLOOR") == {"FINISHED"}
    assert bpy.context.mode == "OBJECT"  # the undo step has to hold the object
    bpy.context.view_layer.update()
    heights = [(mesh.matrix_world @ mesh.data.vertices[index].co).z for index in chosen]
    assert np.abs(heights).max() < 1e-5


def test_points_at_the_cursor(solved, scene):
    for place in ((0, 0, 0), (1, 0, 0), (0, 1, 0)):
        scene.cursor.location = place
        assert bpy.ops.maquette.add_point() == {"FINISHED"}
    points = list(bpy.context.selected_objects)
    assert len(points) == 3
    bpy.context.view_layer.update()
    assert np.allclose(
        sorted(list(p.matrix_world.translation) for p in points), [(0, 0, 0), (0, 1, 0), (1, 0, 0)], atol=1e-5
    )
    assert bpy.ops.maquette.orient(method="FLOOR") == {"FINISHED"}


def test_points_in_a_line_are_refused(solved, scene):
    for place in ((0, 0, 0), (1, 0, 0), (2, 0, 0)):
        scene.cursor.location = place
        bpy.ops.maquette.add_point()
    bpy.context.view_layer.update()
    with pytest.raises(RuntimeError, match="lie on one line"):
        bpy.ops.maquette.orient(method="FLOOR")


def test_view_through_photo(solved, scene):
    names = [f"shot_{frame:03d}" for frame in FRAMES]
    seen = []
    for _ in range(len(names) + 1):
        bpy.ops.maquette.view_through_photo(step="NEXT")
        seen.append(scene.camera.name)
        background = scene.camera.data.background_images[0]
        assert scene.camera.data.show_background_images
        assert tuple(background.image.size) == (scene.render.resolution_x, scene.render.resolution_y)
    assert seen == [*names[1:], names[0], names[1]]  # round and round, beginning after the active camera
    bpy.ops.maquette.view_through_photo(camera="shot_009")
    assert scene.camera.name == "shot_009"
