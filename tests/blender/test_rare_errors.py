# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of Blender's side that seldom happen, each brought about once."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from tests.blender.ball import write_ball


@pytest.fixture
def folder(module, scene, tmp_path):
    return write_ball(tmp_path / "ball", module, rings=8, texture=32)


def test_a_job_without_a_result(scene):
    with pytest.raises(RuntimeError, match=r"This job has no result. Wait for it"):
        bpy.ops.maquette.import_result(job="none")


def test_a_mesh_that_would_crash_blender(folder, scene):
    """MESH_BROKEN: an index beyond the vertices."""
    arrays = dict(np.load(folder / "mesh.npz"))
    arrays["faces"][3, 1] = 10_000
    np.savez(folder / "mesh.npz", **arrays)
    with pytest.raises(RuntimeError, match=r"The mesh in .* is damaged. Make the result again."):
        bpy.ops.maquette.import_result(directory=str(folder))


def test_a_photo_that_was_taken_out(folder, scene):
    """PHOTO_GONE: there is nothing to paint on."""
    bpy.ops.maquette.import_result(directory=str(folder))
    scene.camera.data.background_images.clear()
    with pytest.raises(RuntimeError, match=r"has no photo any more. Import the result again."):
        bpy.ops.maquette.edit_mask()


def test_more_triangles_than_a_photo_can_tell(folder, scene, module, monkeypatch, tmp_path):
    """TOO_MANY_FACES."""
    bpy.ops.maquette.import_result(directory=str(folder))
    geometry = module("operators.geometry")
    monkeypatch.setattr(geometry, "MOST_TRIANGLES", 10)
    with pytest.raises(module("core.errors").InputError, match="shows more than 10 triangles"):
        geometry.write_geometry(bpy.context, [], tmp_path)


def test_two_points_in_one_place(folder, scene):
    """POINTS_COINCIDE."""
    bpy.ops.maquette.import_result(directory=str(folder))
    mesh = bpy.context.view_layer.objects.active
    for vertex in mesh.data.vertices:
        vertex.co = (1, 2, 3)
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="DESELECT")
    bpy.ops.object.mode_set(mode="OBJECT")
    for index in (0, 1):
        mesh.data.vertices[index].select = True
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(RuntimeError, match="The two points lie in one place"):
        bpy.ops.maquette.orient(method="LENGTH")
