# SPDX-License-Identifier: GPL-3.0-or-later
"""Image to Mesh without a window: the operator waits, imports, and says what went wrong; the engine is a stand-in."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from tests.blender.ball import write_ball, write_png
from tests.blender.test_results import datablocks


def test_photos_become_an_object(engine, photos, scene):
    scene.maquette.mesh.quality = "draft"
    assert bpy.ops.maquette.image_to_mesh(**photos("a.png", "b.png")) == {"FINISHED"}
    mesh = bpy.data.objects["photos"]  # called as the photos' folder
    assert json.loads(mesh.maquette.settings)["quality"] == "draft"  # the panel's settings reached the engine
    assert bpy.context.view_layer.objects.active == mesh
    assert scene.camera is not None
    assert [Path(item.path).name for item in scene.maquette.photos] == ["a.png", "b.png"]
    assert engine.entries() == []  # an imported job is off the list
    assert Path(mesh.maquette.folder, "scene.json").is_file()


def test_list_selection_and_image_editor(engine, photos, scene, module, tmp_path):
    """The list comes first; without one, selected image empties count, painted and packed ones too."""
    given = photos("a.png", "b.png")
    bpy.ops.maquette.add_photos(source="FILES", **given)
    bpy.ops.maquette.add_photos(source="FILES", **given)
    assert len(scene.maquette.photos) == 2  # each once
    bpy.ops.maquette.remove_photo(use_all=True)
    on_disk = bpy.data.images.load(str(Path(given["directory"], "a.png")))
    packed = bpy.data.images.load(str(Path(given["directory"], "b.png")))
    packed.pack()
    painted = bpy.data.images.new("made up", 3, 2)
    values = np.linspace(0, 1, 24, dtype=np.float32)
    values[3::4] = 1
    painted.pixels.foreach_set(values)
    for image in (on_disk, packed, painted):
        empty = bpy.data.objects.new(image.name, None)
        empty.empty_display_type, empty.data = "IMAGE", image
        scene.collection.objects.link(empty)
        empty.select_set(True)
    bpy.ops.maquette.add_photos(source="SELECTION")
    paths = [Path(item.path) for item in scene.maquette.photos]
    assert paths[0] == Path(given["directory"], "a.png")
    assert paths[1].read_bytes() == Path(given["directory"], "b.png").read_bytes()
    again = bpy.data.images.load(str(paths[2]))
    assert np.allclose(again.pixels[:], values, atol=0.51 / 255)
    assert painted.source == "GENERATED"
    assert painted.is_dirty  # the artist's image is as it was


@pytest.mark.parametrize(
    ("first", "text"),
    [
        ("bad.png", "share more of the object"),
        ("crash.png", "The engine stopped before the job was done"),
        (None, "No photo is chosen"),
    ],
)
def test_failure_is_said_and_leaves_nothing(first, text, engine, photos, scene):
    before = datablocks()
    with pytest.raises(RuntimeError, match=text) as caught:
        bpy.ops.maquette.image_to_mesh(**(photos(first, "b.png") if first else {}))
    assert "Traceback" not in str(caught.value)
    assert datablocks() == before
    results = Path(engine.places.data_folder(), "results")
    assert not results.exists() or not list(results.glob(".*"))  # nothing half-made
    assert bpy.ops.maquette.image_to_mesh(**photos("good.png", "b.png")) == {
        "FINISHED"
    }  # the next click works


def test_results_lie_beside_a_saved_file(engine, photos, scene, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "work.blend"))
    bpy.ops.maquette.image_to_mesh(**photos("a.png", "b.png"))
    assert Path(bpy.data.objects["photos"].maquette.folder).parent == tmp_path / "maquette"


def test_without_engine_the_button_says_why(scene, module, monkeypatch):
    monkeypatch.setenv("MAQUETTE_ENGINE_PYTHON", "/nowhere/python")
    module("operators.engine").look_again()
    with pytest.raises(RuntimeError, match="There is no Python at"):
        bpy.ops.maquette.image_to_mesh()
    monkeypatch.undo()
    module("operators.engine").look_again()


def test_cancel_and_switching_off_end_the_engine(engine, photos, scene, module, monkeypatch):
    monkeypatch.setenv("MAQUETTE_TEST_SECONDS", "60")
    request = module("core.jobs.request").Request
    entries = [
        engine.submit(
            scene, request("mesh", (f"{i}.png",), {"device": "cpu"}, str(engine.new_result_folder("x"))), "x"
        )
        for i in range(2)
    ]
    for _ in range(200):
        engine.registry().poll()
        if entries[0].progress > 0:
            break
        threading.Event().wait(0.05)
    assert [entry.state for entry in entries] == ["running", "queued"]
    bpy.ops.maquette.cancel_job(job=entries[1].id)
    bpy.ops.maquette.cancel_job()  # the running one
    engine.wait(entries[0])
    assert [entry.state for entry in entries] == ["cancelled", "cancelled"]
    third = engine.submit(scene, entries[0].request, "third")
    for _ in range(200):
        engine.registry().poll()
        if third.progress > 0:
            break
        threading.Event().wait(0.05)
    process = engine.registry()._worker.pid
    engine.unregister()
    assert not alive(process)
    assert not [thread for thread in threading.enumerate() if "maquette" in thread.name and thread.is_alive()]
    engine.register()


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().split()[2] != "Z"


def test_import_waits_for_object_mode(scene, ball_result):
    mesh = bpy.data.objects.new("m", bpy.data.meshes.new("m"))
    scene.collection.objects.link(mesh)
    bpy.context.view_layer.objects.active = mesh
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(RuntimeError, match="Switch to Object mode first"):
        bpy.ops.maquette.import_result(directory=str(ball_result))
    bpy.ops.object.mode_set(mode="OBJECT")
    assert bpy.ops.maquette.import_result(directory=str(ball_result)) == {"FINISHED"}


def test_view_through_photo_steps_and_sizes(scene, ball_result):
    bpy.ops.maquette.import_result(directory=str(ball_result))
    names = []
    for _ in range(7):
        bpy.ops.maquette.view_through_photo(step="NEXT")
        render, info = scene.render, scene.camera.data.maquette
        names.append(info.photo)
        assert (render.resolution_x, render.resolution_y) == (info.width, info.height)
        assert tuple(scene.camera.data.background_images[0].image.size) == (info.width, info.height)
    assert names == [f"photo {i}.jpg" for i in (3, 4, 5, 0, 1, 2, 3)]
    bpy.ops.maquette.view_through_photo(step="PREVIOUS")
    assert scene.camera.data.maquette.photo == "photo 2.jpg"


def test_region_box_reaches_the_settings(scene, module):
    bpy.ops.maquette.add_region_box()
    options = scene.maquette.mesh
    options.region_box.location = (1, 2, 3)
    options.region_box.scale = (2, 1, 0.5)
    bpy.context.view_layer.update()
    settings = module("operators.mesh_settings").mesh_settings(options)
    assert settings.region == pytest.approx((2, 0, 0, 1, 0, 1, 0, 2, 0, 0, 0.5, 3, 0, 0, 0, 1))
    options.use_region = False
    assert module("operators.mesh_settings").mesh_settings(options).region == ()


def test_region_box_of_a_moved_result_is_given_back_in_its_world(engine, photos, scene, module, ball_result):
    """The box belongs to the result: it is meant with that result's cameras and moves with it, and so does what it gives."""
    bpy.ops.maquette.import_result(directory=str(ball_result))
    root = bpy.context.view_layer.objects.active.parent
    bpy.ops.maquette.add_region_box()
    options = scene.maquette.mesh
    read = module("operators.mesh_settings").mesh_settings
    before = np.reshape(read(options).region, (4, 4))
    # Half a metre of radius, its middle where world_from_ball puts it; bounds of the turned mesh are a little wider.
    assert before[:3, 3] == pytest.approx((0.3, -0.2, 0.5), abs=0.02)
    assert np.abs(before[:3, :3] - np.diag(np.diag(before[:3, :3]))).max() < 1e-6
    root.matrix_world = Matrix.Translation((5, 6, 7)) @ Matrix.Rotation(0.6, 4, "X") @ root.matrix_world
    bpy.context.view_layer.update()
    assert np.reshape(read(options).region, (4, 4)) == pytest.approx(before, abs=1e-5)
    assert read(options).cameras == str(ball_result.resolve())
    options.region_box.rotation_euler = (0, 0, 0.5)  # askew: more than six numbers can say
    bpy.context.view_layer.update()
    turned = np.reshape(read(options).region, (4, 4))
    assert abs(np.linalg.det(turned[:3, :3]) / np.linalg.det(before[:3, :3]) - 1) < 1e-5
    assert abs(turned[0, 1]) > 0.1

    with pytest.raises(RuntimeError, match=r"a.png is not among the photos of Ball Root"):
        bpy.ops.maquette.image_to_mesh(**photos("a.png", "b.png"))
    scene.maquette.photos.clear()
    bpy.ops.maquette.image_to_mesh(**photos("photo 0.jpg", "photo 6.jpg"))
    new = bpy.data.objects["photos"]
    assert new.parent != root
    assert np.allclose(
        new.parent.matrix_world, root.matrix_world, atol=1e-6
    )  # lands on the one it was drawn around
    assert json.loads(new.maquette.settings)["region"] == pytest.approx(turned.ravel().tolist(), abs=1e-6)


def test_every_setting_of_the_dataclass_is_in_the_panel(scene, module):
    """Same names, same defaults, so a command line and a click mean the same."""
    settings = module("core.settings").MeshSettings
    assert module("operators.mesh_settings").mesh_settings(scene.maquette.mesh) == settings()
    shown = set(scene.maquette.mesh.bl_rna.properties.keys())
    assert set(settings.__dataclass_fields__) - {"region"} <= shown
    for item in scene.maquette.mesh.bl_rna.properties:
        assert item.identifier in ("rna_type", "name") or item.description


@pytest.mark.parametrize("k1", [0.0, -0.1])
def test_masks_are_painted_and_used(k1, engine, photos, scene, module, tmp_path):
    """The mask that was used becomes the photo's alpha; what is painted is written white on black for the next run.

    Mask files lie over the photo as the lens took it, painting is done on the undistorted photo.
    """
    folder = write_ball(tmp_path / "result", module, distortion=(k1, 0.0, 0.0, 0.0))
    (folder / "masks").mkdir()
    left = np.zeros((480, 640, 3))
    left[:, :320] = 1
    write_png(folder / "masks" / "photo 0.png", left)
    bpy.ops.maquette.import_result(directory=str(folder))
    bpy.ops.maquette.view_through_photo(camera="photo 0")
    bpy.ops.maquette.edit_mask()
    image = bpy.data.images["Mask photo 0"]
    values = np.array(image.pixels[:], np.float32)
    picture = values.reshape(240, 320, 4)[::-1]
    assert picture[..., :3].max() > 0.5  # the photo is still there to be seen
    assert np.mean((picture[..., 3] > 0.5) != (np.arange(320) < 160)) < 0.01
    picture[...] = 1
    row, column = np.mgrid[0:240, 0:320] + 0.5
    disk = np.hypot(column - 285, row - 40) < 25  # in a corner, where the lens matters
    picture[disk, 3] = 0
    image.pixels.foreach_set(values)
    bpy.ops.maquette.edit_mask()
    assert len([i for i in bpy.data.images if "maquette_mask" in i]) == 1  # opened again, not made anew
    bpy.ops.maquette.image_to_mesh(**photos("a.png", "b.png"))
    masks = Path(scene.maquette.mesh.masks)
    assert [path.name for path in masks.iterdir()] == ["photo 0.png"]
    written = np.array(bpy.data.images.load(str(masks / "photo 0.png")).pixels[:]).reshape(240, 320, 4)[::-1]
    # The disk's middle through the lens by hand: photo 0 has f = 330 and its centre at (153, 124) at this size.
    ray = np.array([285 - 153, 40 - 124]) / 330
    bent = ray * (1 + k1 * ray @ ray) * 330 + [153, 124]
    black = written[..., 0] < 0.5
    found = np.array([column[black].mean(), row[black].mean()])
    assert (
        np.linalg.norm(found - bent) < 0.6
    )  # the middle of a bent disk is not quite where its middle is bent to
    assert k1 == 0 or np.linalg.norm(bent - [285, 40]) > 3
    assert abs(black.sum() / disk.sum() - 1) < (0.02 if k1 == 0 else 0.2)


def test_uvs_are_hidden_where_there_is_a_switch(addon, module):
    area = bpy.context.window_manager.windows[0].screen.areas[0]
    kind, area.type = area.type, "IMAGE_EDITOR"
    space = area.spaces.active
    module("operators.compat").hide_uvs(space)
    assert hasattr(space.uv_editor, "show_uv") == (bpy.app.version >= (4, 5, 0))
    assert not getattr(space.uv_editor, "show_uv", False)
    area.type = kind
