# SPDX-License-Identifier: GPL-3.0-or-later
"""Align Camera: what reaches the engine, and what becomes of the camera; the engine is a stand-in."""

from __future__ import annotations

import json

import bpy
import numpy as np
import pytest

from tests.blender.ball import look_at, write_png


@pytest.fixture
def stage(scene, tmp_path, engine):
    """A mirrored textured box, a hidden one, an instance of a third, and a camera with a picture behind it."""
    bpy.ops.mesh.primitive_cube_add(size=2, location=(1, 0, 0))
    box = bpy.context.active_object
    box.scale = (-1, 1, 2)
    material = bpy.data.materials.new("Wood")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    write_png(tmp_path / "wood.png", np.full((4, 4, 3), 0.25))
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = bpy.data.images.load(str(tmp_path / "wood.png"))
    shader = next(n for n in material.node_tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")
    material.node_tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    box.data.materials.append(material)
    bpy.ops.mesh.primitive_cube_add(size=1)
    bpy.context.active_object.hide_viewport = True
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=1, location=(0, 5, 0))
    ball = bpy.context.active_object
    plain = bpy.data.materials.new("Red")
    plain.diffuse_color = (1, 0, 0, 1)
    if bpy.app.version < (5, 0, 0):
        plain.use_nodes = True
    next(n for n in plain.node_tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled").inputs[
        "Base Color"
    ].default_value = (1, 0, 0, 1)
    ball.data.materials.append(plain)
    write_png(tmp_path / "view.png", np.full((30, 40, 3), 0.5))
    data = bpy.data.cameras.new("Shot")
    camera = bpy.data.objects.new("Shot", data)
    scene.collection.objects.link(camera)
    camera.location = (0, -9, 1)
    data.background_images.new().image = bpy.data.images.load(str(tmp_path / "view.png"))
    for item in bpy.context.selected_objects:
        item.select_set(False)
    camera.select_set(True)
    bpy.context.view_layer.objects.active = camera
    scene.render.resolution_x, scene.render.resolution_y = 200, 100
    return camera


@pytest.fixture
def goal(module, monkeypatch):
    """What the stand-in answers: off centre, portrait of nothing, 40 x 30."""
    types, results = module("core.types"), module("core.results")
    camera = types.Camera("view.png", 40, 30, 55.0, 55.0, 21.5, 14.0, look_at((4.0, -3.0, 2.0), turn=0.2), grade="doubtful", reason="it looks alike from behind")  # fmt: skip
    monkeypatch.setenv("MAQUETTE_TEST_CAMERA", json.dumps(results.camera_as_json(camera)))
    return camera


def test_the_camera_shows_what_was_solved(stage, goal, scene, module):
    assert bpy.ops.maquette.align_camera() == {"FINISHED"}
    camera = bpy.data.objects["Shot"]
    assert scene.camera == camera
    assert (scene.render.resolution_x, scene.render.resolution_y) == (40, 30)
    bpy.context.view_layer.update()
    solved = module("operators.cameras").read_camera(camera)
    points = np.random.default_rng(0).normal(size=(50, 3))
    assert np.abs(solved.project(points)[0] - goal.project(points)[0]).max() < 0.01
    info = camera.data.maquette
    assert (info.grade, info.reason) == ("doubtful", "it looks alike from behind")
    assert info.reprojection_px == pytest.approx(0.7)
    assert [b.image.name for b in camera.data.background_images] == ["view.png"]  # the artist's own, once
    assert module("operators.jobs").entries() == []


def test_a_file_becomes_the_background(stage, goal, tmp_path):
    stage.data.background_images.remove(stage.data.background_images[0])
    with pytest.raises(RuntimeError, match="no picture behind it"):
        bpy.ops.maquette.align_camera()
    bpy.ops.maquette.align_camera(filepath=str(tmp_path / "view.png"))
    backgrounds = bpy.data.objects["Shot"].data.background_images
    assert len(backgrounds) == 1
    assert backgrounds[0].image.packed_file is not None


def test_what_the_engine_gets(stage, module, tmp_path):
    """Visible surfaces only, in the world, faces outwards though the box is mirrored, with texture or colour."""
    read, write = module("core.scene_geometry").read, module("operators.geometry").write_geometry
    geometry = read(write(bpy.context, [], tmp_path))
    assert len(geometry.faces) == 12 + 20
    low, high = geometry.vertices[:8].min(0), geometry.vertices[:8].max(0)
    assert np.allclose([low, high], [[0, -1, -2], [2, 1, 2]])
    a, b, c = (geometry.vertices[geometry.faces[:, k]] for k in range(3))
    outwards = np.cross(b - a, c - a)
    middle = (a + b + c) / 3 - np.where(np.arange(32)[:, None] < 12, [1, 0, 0], [0, 5, 0])
    assert ((outwards * middle).sum(1) > 0).all()
    assert ((geometry.corner_normals * outwards[:, None]).sum(2) > 0).all()
    assert geometry.textures == [tmp_path / "wood.png"]  # an untouched file is used where it lies
    assert geometry.face_texture.tolist() == [0] * 12 + [-1] * 20
    assert (geometry.corner_colors[12:] == [255, 0, 0]).all()
    only = read(write(bpy.context, [bpy.data.objects["Icosphere"]], tmp_path))
    assert len(only.faces) == 20


def test_the_present_camera_is_the_start(stage, scene, module):
    """Any sensor fit and shape of the render, against Blender's own matrix."""
    for fit, width, height in (
        ("AUTO", 200, 100),
        ("AUTO", 100, 200),
        ("VERTICAL", 200, 100),
        ("HORIZONTAL", 100, 200),
    ):
        stage.data.sensor_fit, stage.data.sensor_height = fit, 20.0
        scene.render.resolution_x, scene.render.resolution_y = width, height
        lens = module("operators.cameras").scene_lens(scene, stage)
        graph = bpy.context.evaluated_depsgraph_get()
        matrix = stage.calc_matrix_camera(graph, x=width, y=height)
        assert lens.fx == pytest.approx(matrix[0][0] * width / 2, rel=1e-5)
        assert lens.fy == pytest.approx(matrix[1][1] * height / 2, rel=1e-5)


def test_why_it_cannot_be_done(stage, goal, scene):
    for item in list(bpy.data.objects):
        if item.type == "MESH":
            bpy.data.objects.remove(item)
    with pytest.raises(RuntimeError, match="No surface is visible"):
        bpy.ops.maquette.align_camera()
    bpy.data.objects.remove(stage)
    with pytest.raises(RuntimeError, match="Select a camera"):
        bpy.ops.maquette.align_camera()


def test_the_camera_is_found_again_by_name_or_said_to_be_gone(stage, goal, scene, module):
    """An undo between start and end gives objects new session numbers."""
    align = module("operators.align_camera")
    settings = {"camera": "Shot", "camera_uid": -5}
    assert align._camera_of(scene, settings) == stage
    stage.name = "Other"
    with pytest.raises(module("core.errors").InputError, match="not in this scene any more"):
        align._camera_of(scene, settings)
