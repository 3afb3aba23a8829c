# SPDX-License-Identifier: GPL-3.0-or-later
"""Re-Extract: what the dialog asks reaches the engine, and the new mesh takes the old one's place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Matrix


@pytest.fixture
def ball(ball_result, tmp_path, scene, engine):
    """The painted ball, imported with a field and chosen; its root stands elsewhere than it was made."""
    folder = tmp_path / "ball"
    shutil.copytree(ball_result, folder)
    content = json.loads((folder / "scene.json").read_text())
    content["field"] = "field.safetensors"
    (folder / "scene.json").write_text(json.dumps(content))
    bpy.ops.maquette.import_result(directory=str(folder))
    mesh = bpy.context.view_layer.objects.active
    mesh.parent.matrix_world = Matrix.Translation((3, 0, 0)) @ mesh.parent.matrix_world
    bpy.context.view_layer.update()
    return mesh


def test_the_new_mesh_takes_the_place_of_the_old(ball, scene):
    scene.maquette.mesh.texture_size = 512
    old = ball.name
    assert bpy.ops.maquette.re_extract(
        use_threshold=True, threshold=7.5, resolution=200, face_budget=900
    ) == {"FINISHED"}
    new = bpy.context.view_layer.objects.active
    old = bpy.data.objects[old]
    asked = json.loads(new.maquette.settings)
    assert (asked["threshold"], asked["resolution"], asked["face_budget"]) == (7.5, 200, 900)
    assert (asked["texture_size"], asked["region"]) == (512, [])
    assert new != old
    assert new.maquette.folder != old.maquette.folder
    assert Path(new.maquette.folder, "scene.json").is_file()
    assert np.allclose(new.matrix_world, old.matrix_world, atol=1e-5)  # where the artist had put it
    assert old.hide_viewport and old.hide_render
    assert not new.hide_render


def test_the_fields_own_threshold_unless_another_is_wanted(ball):
    bpy.ops.maquette.re_extract(threshold=7.5)
    assert "threshold" in (asked := json.loads(bpy.context.view_layer.objects.active.maquette.settings))
    assert asked["threshold"] is None


def test_a_region_box_is_meant_where_it_stands(ball, scene, module):
    box = bpy.data.objects.new("Box", None)
    box.empty_display_type, box.empty_display_size = "CUBE", 0.5
    box.location = (3, 0, 1)  # the root was moved by 3
    scene.collection.objects.link(box)
    bpy.context.view_layer.update()
    scene.maquette.mesh.region_box = box
    bpy.ops.maquette.re_extract()
    asked = json.loads(bpy.context.view_layer.objects.active.maquette.settings)
    cube = np.array(asked["region"]).reshape(4, 4)
    assert np.allclose(cube[:3, :3], np.eye(3), atol=1e-5)
    assert np.allclose(cube[:3, 3], [0, 0, 1], atol=1e-5)


def test_what_cannot_be_extracted_is_told(ball, scene):
    folder = Path(ball.maquette.folder)
    content = json.loads((folder / "scene.json").read_text())
    content["field"] = None
    (folder / "scene.json").write_text(json.dumps(content))
    with pytest.raises(RuntimeError, match="saved without its field"):
        bpy.ops.maquette.re_extract()
    shutil.rmtree(folder)
    with pytest.raises(RuntimeError, match="holds no readable result"):
        bpy.ops.maquette.re_extract()
    for item in bpy.data.objects:
        item.select_set(False)
    bpy.context.view_layer.objects.active = scene.camera = None
    with pytest.raises(RuntimeError, match="Select an object of a result"):
        bpy.ops.maquette.re_extract()
