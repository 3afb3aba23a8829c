# SPDX-License-Identifier: GPL-3.0-or-later
"""Every operator that has a button, started by a click on it; undo, redo, save, reload and import again; engine stood in for.

Buttons are found by their looks (`Window.place_of`), so no place of any is written down
here. Heads, and what needs a network or an engine to be set up, have their own tests.
"""

from __future__ import annotations

import importlib
import json
import shutil
import time

import pytest
from maquette.core.results import camera_as_json
from maquette.core.types import Camera

from tests.blender.ball import look_at, write_take
from tests.real_blender.window import ACCEPT, Window

pytestmark = [pytest.mark.real_blender, pytest.mark.timeout(2400)]

CHOOSE = """
space = bpy.context.window_manager.windows[-1].screen.areas[0].spaces.active
assert space.type == 'FILE_BROWSER', space.type
space.params.directory = {folder!r}.encode()
"""


@pytest.fixture
def window(tool, version, stage_folder, archive, monkeypatch):
    """Six photos in the list, the default cube hidden."""
    goal = Camera(
        "photo 0.png", 320, 240, 500.0, 500.0, 163.0, 118.0, look_at((4.0, -3.0, 2.0)), grade="good"
    )
    monkeypatch.setenv("MAQUETTE_TEST_CAMERA", json.dumps(camera_as_json(goal)))
    write_take(stage_folder / "take", lambda name: importlib.import_module(f"maquette.{name}"), (1, 2, 3, 5))
    monkeypatch.setenv("MAQUETTE_TEST_TAKE", str(stage_folder / "take"))
    window = Window(tool, version, stage_folder, archive, seconds=1.5)
    try:
        window.order("bpy.data.objects['Cube'].hide_set(True); bpy.ops.ed.undo_push(message='hidden')")
        yield window
    finally:
        window.close()


def windows(window):
    """How many windows Blender has: a second one is a file browser or an editor that was opened."""
    return window.value("len(bpy.context.window_manager.windows)")


def choose(window, folder, everything=False):
    """In the file browser that has opened: a folder, maybe all files in it, and the button."""
    time.sleep(2.5)
    window.order(CHOOSE.format(folder=str(folder)))
    window.mouse(600, 300)
    window.mouse(605, 310)
    time.sleep(2.0)
    if everything:
        window.key("a")
    window.click(*window.in_second(*ACCEPT))
    time.sleep(1.5)


def no_jobs(state):
    return not state["jobs"]


def imported(*names):
    return lambda state: not state["jobs"] and set(names) <= set(state["objects"])


def test_photos(window):
    """The list, the mesh, its mask, candidates of a single picture."""
    told = window.folder / "result" / "scene.json"
    told.write_text(
        told.read_text().replace('.jpg"', '.png"')
    )  # the photos of the list are found again in it
    window.show_only("images")
    window.press("images", "remove_photo", 1, lambda s: s["photos"] == 0)
    assert window.undo()["photos"] == 6
    assert window.undo(redo=True)["photos"] == 0
    window.press("images", "add_photos")
    choose(window, window.folder / "photos", everything=True)
    window.wait(lambda s: s["photos"] == 6)
    window.press("images", "remove_photo", 0, lambda s: s["photos"] == 5)
    picture = window.folder / "empty.png"
    shutil.copy(window.folder / "photos" / "photo 0.png", picture)
    window.order(
        f"bpy.ops.object.select_all(action='DESELECT'); bpy.ops.object.empty_image_add(filepath={str(picture)!r}); "
        "bpy.ops.ed.undo_push(message='empty')"
    )
    window.mouse(1100, 800)
    window.press("images", "add_photos", 1, lambda s: s["photos"] == 6)
    assert window.undo()["photos"] == 5
    assert window.undo(redo=True)["photos"] == 6
    before = window.state()
    window.press("images", "image_to_mesh", 0, lambda s: s["jobs"])
    window.wait(imported("photo 1 Root"))  # the photos lie in two folders, so the first gives its name
    assert window.undo()["objects"] == before["objects"]
    assert "photo 1 Root" in window.undo(redo=True)["objects"]
    window.order("bpy.context.scene.maquette.active_photo = 1")
    window.picture("1 photos")
    window.press("images", "edit_mask", 0, lambda s: windows(window) == 2)
    time.sleep(3)
    assert window.value("[i.name for i in bpy.data.images if i.name.startswith('Mask')]") == ["Mask photo 2"]
    assert windows(window) == 2
    window.picture("2 mask")
    window.close_second()
    window.order(
        "s = bpy.context.scene.maquette\nwhile len(s.photos) > 1: s.photos.remove(0)\nbpy.ops.ed.undo_push(message='one')"
    )
    window.show_only("images", "candidates")
    window.press("images", "candidates", 0, lambda s: s["jobs"])
    window.wait(no_jobs)
    assert window.value("len(bpy.context.scene.maquette.candidates)") == 2
    window.show_only("candidates")
    window.picture("3 candidates")
    window.press("candidates", "use_candidate", 1, lambda s: s["jobs"])
    window.wait(no_jobs)
    window.press("candidates", "clear_candidates")
    time.sleep(1)
    assert window.value("len(bpy.context.scene.maquette.candidates)") == 0
    window.undo()
    assert window.value("len(bpy.context.scene.maquette.candidates)") == 2


def test_cameras(window):
    """Found, looked through, set upright, animated, aligned."""
    window.show_only("cameras", "orient", "sequence")
    window.press("cameras", "estimate_poses", 0, lambda s: s["jobs"])
    window.wait(lambda s: not s["jobs"] and "shot_001" in s["objects"])
    window.picture("1 cameras")
    for number, moves in ((1, False), (2, True), (0, True)):  # this one, the next, the one before
        before = window.state()["camera"]
        window.press(
            "cameras", "view_through_photo", number,
            lambda s, b=before, m=moves: (s["camera"] != b) == m and s["view"] == "CAMERA",
        )  # fmt: skip
    root = "next(o for o in bpy.data.objects if o.type == 'EMPTY' and o.maquette.schema)"
    matrix = f"[list(row) for row in {root}.matrix_world]"
    window.order(f"{root}.rotation_euler = (0.5, 0.2, 0); bpy.ops.ed.undo_push(message='turned')")
    before = window.value(matrix)
    window.press("orient", "orient")
    time.sleep(1)
    after = window.value(matrix)
    assert after != before
    window.undo()
    assert window.value(matrix) == before
    window.undo(redo=True)
    assert window.value(matrix) == after
    window.press("orient", "add_point")
    time.sleep(1)
    assert "Orient Point" in window.state()["objects"]
    for number, count in ((1, 3), (2, 2)):  # the floor, the length
        window.order(
            "bpy.ops.object.select_all(action='DESELECT')\n"
            f"root = {root}\n"
            f"for i, place in enumerate([(0, 0, 0.4), (1, 0, 0.6), (0, 1, 0.5)][:{count}]):\n"
            "    p = bpy.data.objects.new('Mark', None); bpy.context.collection.objects.link(p); p.parent = root\n"
            "    p.location = place; p.select_set(True); bpy.context.view_layer.objects.active = p\n"
            "bpy.ops.ed.undo_push(message='points')"
        )
        before = window.value(matrix)
        window.press("orient", "orient", number)
        time.sleep(1)
        assert window.value(matrix) != before, number
    count = len(window.state()["objects"])
    window.press("sequence", "animated_camera", 0, lambda s: len(s["objects"]) == count + 1)
    assert len(window.undo()["objects"]) == count
    assert len(window.undo(redo=True)["objects"]) == count + 1
    window.order(
        "bpy.ops.object.select_all(action='DESELECT'); c = bpy.data.objects['Camera']; c.select_set(True); "
        "bpy.context.view_layer.objects.active = c; bpy.data.objects['Cube'].hide_set(False); "
        f"b = c.data.background_images.new(); b.image = bpy.data.images.load({str(window.folder / 'photos' / 'photo 0.png')!r}); "
        "bpy.ops.ed.undo_push(message='photo')"
    )
    window.show_only("align")
    window.picture("2 align")
    before = window.value("list(bpy.data.objects['Camera'].location)")
    window.press("align", "align_camera", 0, lambda s: s["jobs"])
    window.wait(no_jobs)
    assert window.value("list(bpy.data.objects['Camera'].location)") != before
    window.undo()
    assert window.value("list(bpy.data.objects['Camera'].location)") == before


def test_result(window):
    """All that is made of a result."""
    told = window.folder / "result" / "scene.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), "field": "field.safetensors"}))
    (told.parent / "field.safetensors").touch()
    window.show_only("result", "mesh_report", "progress", "images")
    window.press("images", "image_to_mesh", 0, lambda s: s["jobs"])
    window.wait(imported("photos"))
    window.show_only("result", "mesh_report", "compare")
    window.picture("1 result")
    corners = "[tuple(v.co) for v in bpy.data.objects['photos'].data.vertices][:50]"
    before = window.value(corners)
    window.press("result", "re_bake", 0, lambda s: s["jobs"])
    window.wait(no_jobs)
    assert window.value(corners) == before
    assert window.value("bpy.data.objects['photos'].data.materials[0].name")
    window.press("mesh_report", "check_mesh")
    time.sleep(1)
    assert "watertight" in window.value("bpy.data.objects['photos'].maquette.report")
    count = len(window.state()["objects"])
    window.press("result", "remesh")
    time.sleep(1)
    window.key("Return")
    window.wait(lambda s: len(s["objects"]) > count and not s["jobs"], seconds=60)
    assert len(window.undo()["objects"]) <= count + 1
    window.order(
        "bpy.ops.object.select_all(action='DESELECT'); o = bpy.data.objects['photos']; o.hide_viewport = False; "
        "o.select_set(True); bpy.context.view_layer.objects.active = o; bpy.ops.ed.undo_push(message='back')"
    )
    window.press("result", "mark_as_asset")
    time.sleep(2)
    assert window.value("bpy.data.objects['photos'].asset_data is not None")
    window.undo()
    assert window.value("bpy.data.objects['photos'].asset_data is None")
    collections = window.state()["datablocks"]["collections"]
    window.press("result", "re_extract")
    time.sleep(1.5)
    window.shot("2 re-extract")
    window.press_default()
    window.wait(lambda s: not s["jobs"] and s["datablocks"]["collections"] == collections + 1, seconds=40)
    window.show_only("result", "compare", "progress")
    shown = (
        "[o.name for o in bpy.data.objects if o.type == 'MESH' and o.maquette.schema and not o.hide_viewport]"
    )
    before = window.value(shown)
    window.press("compare", "compare")
    time.sleep(1)
    assert window.value(shown) != before
    window.press("compare", "compare")
    time.sleep(1)
    assert window.value(shown) == before
    window.press("compare", "compare", 1)
    time.sleep(1)
    assert len(window.value(shown)) == len(before) + 1
    window.picture("3 side by side")


def test_result_kept(window):
    """Saved, loaded with the file, and imported again; Regenerate without its photos on purpose, then with them."""
    window.order(
        f"bpy.ops.maquette.import_result('EXEC_DEFAULT', True, directory={str(window.folder / 'result')!r})"
    )
    window.wait(lambda s: "Ball" in s["objects"])
    window.show_only("result", "progress")
    saved = window.folder / "kept"
    saved.mkdir()
    window.press("result", "save_result", 0, lambda s: windows(window) == 2)
    choose(window, saved)
    ends = time.monotonic() + 20
    while not list(saved.glob("*/scene.json")):
        assert time.monotonic() < ends
        time.sleep(0.3)
    # Regenerate looks for photos that are not where the result says: a failure on purpose, told without a job.
    window.press("result", "regenerate")
    time.sleep(1.5)
    window.picture("4 photos are gone")
    window.mouse(950, 310)  # the message lies over the buttons
    window.key("Escape")
    assert no_jobs(window.state())
    folder = str(window.folder / "photos")
    window.order(
        f"for c in bpy.data.cameras:\n    if c.maquette.photo: c.maquette.photo_path = {folder!r} + '/' + c.maquette.photo[:-4] + '.png'\n"
        "for o in bpy.data.objects: o.maquette.failed = ''\n"
        "bpy.ops.ed.undo_push(message='photos')"
    )
    window.press("result", "regenerate", 0, lambda s: s["jobs"])
    window.wait(no_jobs, seconds=40)
    blend = window.folder / "work.blend"
    window.order(f"bpy.ops.wm.save_as_mainfile(filepath={str(blend)!r})")
    objects = window.state()["objects"]
    window.order(f"bpy.ops.wm.open_mainfile(filepath={str(blend)!r}, load_ui=False)")
    time.sleep(3)
    assert window.state()["objects"] == objects
    window.show_only("result", "progress", "images")
    window.press("result", "import_result", 0, lambda s: windows(window) == 2)
    choose(window, next(saved.glob("*/scene.json")).parent)
    window.wait(lambda s: len(s["objects"]) > len(objects), seconds=20)
    assert window.undo()["objects"] == objects


def test_one_cancelled_one_failed(window):
    """Three in line: one in the queue and the one at work cancelled within two seconds. A failure says what happened."""
    shutil.copy(window.folder / "photos" / "photo 0.png", window.folder / "photos" / "bad.png")
    window.order("import os; os.environ['MAQUETTE_TEST_SECONDS'] = '60'")
    window.show_only("progress", "images")
    for count in (1, 2, 3):
        window.press("images", "image_to_mesh", 0, lambda s, n=count: len(s["jobs"]) == n)
    window.wait(lambda s: s["jobs"][0]["state"] == "running" and s["jobs"][0]["progress"] > 0)
    window.picture("1 queue")
    window.press("progress", "cancel_job", 2, lambda s: len(s["jobs"]) == 2)
    place = window.place_of("progress", "cancel_job", 0)
    first = window.state()["jobs"][0]
    window.click(*place)
    clicked = time.monotonic()
    window.wait(lambda s: len(s["jobs"]) == 1 and s["jobs"][0]["progress"] < first["progress"], seconds=10)
    print(f"cancelled {time.monotonic() - clicked:.1f} s after the click")
    assert time.monotonic() - clicked < 2.5  # what the test sees is written four times a second
    window.press("progress", "cancel_job", 0, no_jobs)
    window.order(
        "s = bpy.context.scene.maquette; s.photos[0].path = s.photos[0].path.replace('photo 0', 'bad')\n"
        "import os; os.environ['MAQUETTE_TEST_SECONDS'] = '2'"
    )
    window.press(
        "images", "image_to_mesh", 0, lambda s: s["jobs"] and s["jobs"][0]["state"] == "failed", seconds=40
    )
    assert window.state()["jobs"][0]["error"]["message"] == "The photos do not overlap."
    window.picture("2 failed")
    window.press("progress", "dismiss_job", 0, no_jobs)


def test_engine_and_models(window):
    """Asked what is there, looked for anew; what is not allowed now is grey."""
    window.show_only("engine")
    window.press("engine", "check_engine")
    ends = time.monotonic() + 120
    while not window.value("len(module('operators.check_engine').findings())"):
        assert time.monotonic() < ends
        time.sleep(1)
    window.mouse(600, 700)
    time.sleep(1)
    window.picture("1 engine")
    window.press("engine", "look_for_engine")
    window.show_only("models")
    window.picture("2 models")
    window.press("models", "add_model")
    choose(window, window.folder / "photos", everything=True)
    time.sleep(3)
    window.picture("3 not a model")
    assert window.value("bool(bpy.data.objects)")


def test_other_ways_in(window):
    """The shortcut, the search of operators, the Image Editor's menu, and what follows a drop of files."""
    window.mouse(500, 600)
    window.key("ctrl+alt+m")
    window.wait(lambda s: s["jobs"])
    window.wait(imported("photos"), seconds=40)
    window.order("bpy.context.scene.maquette.photos.clear(); bpy.ops.ed.undo_push(message='none')")
    photos = sorted((window.folder / "photos").iterdir())
    files = [{"name": path.name} for path in photos]
    window.mouse(500, 500)
    window.order(
        f"bpy.ops.maquette.image_to_mesh('INVOKE_DEFAULT', directory={str(photos[0].parent)!r}, files={files!r})"
    )
    time.sleep(2)
    assert no_jobs(window.state())  # it asks first
    window.picture("1 dropped")
    window.mouse(500, 500)
    window.key("Return")
    window.wait(lambda s: s["jobs"])
    state = window.wait(imported("photos.001"), seconds=40)
    assert state["photos"] == len(photos)
    window.mouse(500, 600)
    # By its operator: on a virtual screen F3 opens nothing in 5.2; why is not known.
    window.order("bpy.ops.wm.search_menu('INVOKE_DEFAULT')")
    for step in (3, 6):  # a still mouse draws nothing
        window.mouse(500 + step, 600 + step)
        time.sleep(1.5)
    window.type("photos to mesh")
    time.sleep(2)
    window.shot("2 search")
    window.key("Return")
    time.sleep(3)
    assert (
        "MAQUETTE_OT_image_to_mesh"
        in window.value(
            "[o.bl_idname for w in bpy.context.window_manager.windows for o in w.modal_operators]"
        )
        or windows(window) == 2
    )
    window.mouse(600, 300)
    window.key("Escape")
    time.sleep(2)
    window.order(
        "s = bpy.context.scene.maquette; s.photos.clear()\n"
        f"i = bpy.data.images.load({str(photos[0])!r}); a = bpy.context.area; a.type = 'IMAGE_EDITOR'\n"
        "a.spaces.active.image = i; bpy.ops.maquette.add_photos('INVOKE_DEFAULT', source='EDITOR'); a.type = 'VIEW_3D'"
    )
    window.wait(lambda s: s["photos"] == 1)
