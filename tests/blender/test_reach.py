# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the operators work: Edit mode, an empty scene, a linked collection, a file never saved; and what undo takes back."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.blender.ball import write_ball


@pytest.fixture
def folder(module, scene, tmp_path):
    return write_ball(tmp_path / "ball", module, rings=8, texture=32)


def test_edit_mode(folder, engine, photos, scene):
    """Jobs start in it, on the mesh as it is being edited; new objects wait for Object mode, and that is said."""
    scene.maquette.mesh.device = "cpu"
    bpy.ops.maquette.import_result(directory=str(folder))
    ball = bpy.context.view_layer.objects.active
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.transform.translate(value=(0.25, 0, 0))
    for call in (bpy.ops.maquette.remesh, bpy.ops.maquette.compare, bpy.ops.maquette.add_region_box):
        with pytest.raises(RuntimeError, match="Switch to Object mode first"):
            call()
    bpy.ops.maquette.add_photos(source="FILES", **photos("a.png", "b.png"))
    assert len(scene.maquette.photos) == 2
    with pytest.raises(RuntimeError, match="Switch to Object mode first"):  # only the import has to wait
        bpy.ops.maquette.re_bake()
    assert ball.mode == "EDIT"
    assert bpy.ops.maquette.check_mesh() == {"FINISHED"} and ball.mode == "EDIT"
    entry = engine.entries()[0]
    assert entry.state == "done"
    moved = np.empty(3 * len(ball.data.vertices), np.float32)
    bpy.ops.object.mode_set(mode="OBJECT")
    ball.data.vertices.foreach_get("co", moved)
    assert bpy.ops.maquette.import_result(job=entry.id) == {"FINISHED"}
    after = np.empty_like(moved)
    ball.data.vertices.foreach_get("co", after)
    assert moved.tobytes() == after.tobytes()
    assert ball.maquette.folder != ball.parent.maquette.folder  # it was this mesh that got the texture


def test_a_linked_collection(folder, engine, scene, tmp_path):
    """A result in a library: it can be looked at, compared and made lighter here; what would change it says why not."""
    bpy.ops.maquette.import_result(directory=str(folder))
    library = tmp_path / "library.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(library))
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    with bpy.data.libraries.load(str(library), link=True) as (_, here):
        here.collections = ["Ball"]
    scene = bpy.context.scene
    scene.collection.children.link(here.collections[0])
    bpy.context.view_layer.update()
    ball = bpy.data.objects["Ball"]
    assert ball.library is not None
    bpy.context.view_layer.objects.active = ball
    with pytest.raises(RuntimeError, match=r"Ball belongs to another file. Make it local first"):
        bpy.ops.maquette.re_bake()
    with pytest.raises(RuntimeError, match="This mesh belongs to another file"):
        bpy.ops.maquette.mark_as_asset()
    assert bpy.ops.maquette.view_through_photo(step="NEXT") == {"FINISHED"}
    bpy.context.view_layer.objects.active = ball
    assert bpy.ops.maquette.remesh(method="DECIMATE", faces=60, use_re_bake=False) == {"FINISHED"}
    new = bpy.context.view_layer.objects.active
    assert new.library is None and new.data.library is None and len(new.data.polygons) <= 62


def test_an_empty_scene_and_a_file_never_saved(engine, photos, scene):
    """No world, no camera, no collection; results then lie in the data folder, and the next file beside them is its own."""
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    assert bpy.data.filepath == "" and scene.camera is None
    scene.maquette.mesh.device = "cpu"
    assert bpy.ops.maquette.image_to_mesh(**photos("a.png", "b.png")) == {"FINISHED"}
    mesh = bpy.context.view_layer.objects.active
    assert Path(mesh.maquette.folder).parent == Path(engine.places.data_folder()).resolve() / "results"


def test_saved_reloaded_and_imported_again(folder, scene, tmp_path):
    bpy.ops.maquette.import_result(directory=str(folder))
    bpy.ops.maquette.check_mesh()
    scene.maquette.show_invented = True
    report = bpy.context.view_layer.objects.active.maquette.report
    path = tmp_path / "work.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.wm.open_mainfile(filepath=str(path))
    ball = bpy.data.objects["Ball"]
    assert ball.maquette.report == report and bpy.context.scene.maquette.show_invented
    texture = next(
        n for n in ball.data.materials[0].node_tree.nodes if n.bl_idname == "ShaderNodeTexImage"
    ).image
    assert texture.packed_file is not None and tuple(texture.size) == (64, 32)
    assert bpy.ops.maquette.import_result(directory=str(folder)) == {"FINISHED"}
    assert {"Ball", "Ball.001"} <= {item.name for item in bpy.data.objects}


def test_what_changes_data_can_be_undone(addon):
    """UNDO is set where data changes at once; jobs leave it to the import, so that a finished job is one step."""
    steps = {"BLOCKING", "INTERNAL", "GRAB_CURSOR"}
    at_once = {
        "add_photos", "remove_photo", "import_result", "view_through_photo", "edit_mask", "add_region_box", "remesh",
        "compare", "check_mesh", "mark_as_asset", "clear_candidates", "use_model", "clear_gallery", "paint_region",
    }  # fmt: skip
    jobs = {
        "image_to_mesh", "re_extract", "re_bake", "regenerate", "candidates", "use_candidate", "estimate_poses",
        "align_camera", "set_up_engine", "check_engine", "download_model", "add_model", "remove_model", "save_result",
        "cancel_job", "dismiss_job", "stop_download", "look_for_engine", "generate_head", "head_gallery", "use_head", "orbit_head",
        "mix_heads", "head_from_photo", "blend_heads",
    }  # fmt: skip
    for name in at_once | jobs:
        kind = getattr(bpy.types, f"MAQUETTE_OT_{name}")
        assert ("UNDO" in getattr(kind, "bl_options", set())) == (name in at_once), name
        assert not steps & getattr(kind, "bl_options", set())


def test_drops_are_taken_in_every_mode(module):
    handler = module("panels.drop").MAQUETTE_FH_photos
    area = type("Area", (), {"type": "VIEW_3D"})()
    for mode in ("OBJECT", "EDIT_MESH", "SCULPT"):
        assert handler.poll_drop(type("Context", (), {"area": area, "mode": mode})())
    area.type = "IMAGE_EDITOR"
    assert not handler.poll_drop(type("Context", (), {"area": area, "mode": "OBJECT"})())
    assert {".jpg", ".png", ".heic"} <= set(handler.bl_file_extensions.split(";"))
