# SPDX-License-Identifier: GPL-3.0-or-later
"""Click, watch, cancel, finish, undo, crash: the built extension in a real Blender's window, engine stood in for.

Run it with `-m real_blender`; pictures of every step lie in pytest's temporary folder.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.real_blender.window import Window

pytestmark = [pytest.mark.real_blender, pytest.mark.timeout(600)]

NEW = {"photos", "photos Root", *(f"photo {i}" for i in range(6))}


@pytest.fixture
def window(tool, version, stage_folder, archive):
    """Blender with our tab open, six photos in the list and the default cube hidden."""
    window = Window(tool, version, stage_folder, archive, seconds=12.0)
    try:
        window.order("bpy.data.objects['Cube'].hide_set(True); bpy.ops.ed.undo_push(message='hidden')")
        window.start = window.place_of("images", "image_to_mesh")
        yield window
    finally:
        window.close()


def running(state):
    return (
        bool(state["jobs"]) and state["jobs"][0]["state"] == "running" and state["jobs"][0]["progress"] > 0.1
    )


def leftovers(window):
    results = window.folder / "data" / "results"
    return list(results.iterdir()) if results.is_dir() else []


def test_click_watch_finish_look_undo(window):
    before = window.state()
    window.shot("1 before")
    window.click(*window.start)
    state = window.wait(running)
    assert state["jobs"][0]["stage"] in ("masks", "cameras", "field", "texture")
    assert set(state["objects"]) == set(before["objects"])  # nothing before it is done
    window.shot("2 progress")
    state = window.wait(lambda s: not s["jobs"])
    assert set(state["objects"]) - set(before["objects"]) == NEW
    assert (state["camera"], state["render"]) == ("photo 2", [256, 256])
    window.mouse(600, 700)
    time.sleep(3)  # the first textured drawing without a graphics card
    window.shot("3 finished")
    window.press("cameras", "view_through_photo", 1, lambda s: s["view"] == "CAMERA")
    time.sleep(2)
    window.shot("4 through the photo")
    window.mouse(600, 700)
    window.key("ctrl+z")  # the look through the photo
    time.sleep(1)
    assert set(window.state()["objects"]) >= NEW
    window.key("ctrl+z")  # all of the import
    state = window.wait(lambda s: set(s["objects"]) == set(before["objects"]))
    for name in ("datablocks", "camera", "render"):
        assert state[name] == before[name]
    window.key("ctrl+shift+z")
    state = window.wait(lambda s: set(s["objects"]) - set(before["objects"]) == NEW)
    window.shot("5 redone")
    window.order("bpy.ops.maquette.edit_mask()")
    time.sleep(2)
    window.shot("6 mask")


def test_cancel_by_button_and_by_escape(window):
    before = window.state()
    window.click(*window.start)
    window.wait(running)
    place = window.place_of("progress", "cancel_job")
    assert running(window.state())
    window.click(*place)
    window.wait(lambda s: not s["jobs"], seconds=3.0)
    window.click(*window.start)
    state = window.wait(running)
    assert state["modal"] == ["MAQUETTE_OT_listen_for_escape"]
    window.mouse(600, 600)
    window.key("Escape")
    window.wait(lambda s: not s["jobs"], seconds=3.0)
    window.mouse(610, 600)
    state = window.wait(lambda s: s["modal"] == [], seconds=3.0)
    assert state["objects"] == before["objects"]
    assert state["datablocks"] == before["datablocks"]
    assert leftovers(window) == []


def test_result_waits_while_the_artist_is_in_edit_mode(window):
    window.click(*window.start)
    window.wait(running)
    window.order("bpy.data.objects['Cube'].hide_set(False); bpy.ops.object.mode_set(mode='EDIT')")
    state = window.wait(lambda s: s["jobs"] and s["jobs"][0]["state"] == "done")
    time.sleep(12)  # longer than jobs.IMPORT_PATIENCE_S
    state = window.state()
    assert "photos" not in state["objects"]
    window.shot("1 waiting")
    place = window.place_of("progress", "import_result")
    window.click(*place)
    assert "photos" not in window.state()["objects"]  # greyed out in this mode
    window.order("bpy.ops.object.mode_set(mode='OBJECT')")
    window.press("progress", "import_result", 0, lambda s: "photos" in s["objects"])


def test_job_survives_another_file_and_does_not_land_in_it(window):
    """The timer is persistent; a result of the old file waits for the artist's click in the new one."""
    window.click(*window.start)
    window.wait(running)
    window.order("bpy.ops.wm.read_homefile(load_ui=False)")
    state = window.wait(lambda s: s["jobs"] and s["jobs"][0]["state"] == "done")
    time.sleep(1)
    assert "photos" not in window.state()["objects"]
    assert state["jobs"][0]["state"] == "done"
    window.order(
        "jobs = module('operators.jobs'); bpy.ops.maquette.import_result('INVOKE_DEFAULT', job=jobs.entries()[0].id)"
    )
    window.wait(lambda s: "photos" in s["objects"], seconds=5)


def test_worker_killed_at_ten_random_moments(window):
    rng = random.Random(0)
    before = window.state()
    for _ in range(10):
        window.click(*window.start)
        state = window.wait(lambda s: s["worker"] and s["jobs"])
        time.sleep(rng.uniform(0.0, 3.0))
        os.kill(state["worker"], signal.SIGKILL)
        state = window.wait(lambda s: s["jobs"] and s["jobs"][0]["state"] == "failed", seconds=5)
        error = state["jobs"][0]["error"]
        assert error["message"]
        assert error["remedy"]
        assert state["objects"] == before["objects"]
        assert leftovers(window) == []
        window.order("j = module('operators.jobs'); [j.forget(e.id) for e in j.entries()]; j.redraw()")
        window.wait(lambda s: not s["jobs"])
    window.click(*window.start)
    window.wait(lambda s: "photos" in s["objects"])


def test_quitting_ends_the_engine(window):
    window.click(*window.start)
    worker = window.wait(running)["worker"]
    assert Path(f"/proc/{worker}").exists()
    assert window.close() == 0
    ends = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert leftovers(window) == []


@pytest.fixture
def real_window(tool, version, root, stage_folder, archive):
    """The same with the engine of the checkout and the shipped example photos, quality draft."""
    photos = sorted((root / "tests" / "data" / "example_photos").glob("*.jpg"))
    if not photos:
        pytest.skip("needs the example photos")
    shutil.rmtree(stage_folder / "photos")
    (stage_folder / "photos").mkdir()
    for photo in photos:
        shutil.copy(photo, stage_folder / "photos")
    window = Window(tool, version, stage_folder, archive, seconds=None)
    try:
        window.order(
            "bpy.data.objects['Cube'].hide_set(True); bpy.context.scene.maquette.mesh.quality = 'draft'"
        )
        window.start = window.place_of("images", "image_to_mesh")
        yield window
    finally:
        window.close()


@pytest.mark.timeout(1800)
def test_real_engine_one_cancelled_one_finished(real_window):
    window = real_window
    before = window.state()
    window.click(*window.start)
    window.wait(lambda s: s["jobs"] and s["jobs"][0]["progress"] > 0.05, seconds=300)
    window.shot("1 progress")
    window.press("progress", "cancel_job", 0, lambda s: not s["jobs"])
    state = window.state()
    assert state["objects"] == before["objects"]
    assert leftovers(window) == []
    window.press("images", "image_to_mesh", 0, lambda s: s["jobs"])
    window.wait(lambda s: s["jobs"] and s["jobs"][0]["stage"] == "field", seconds=600)
    window.shot("2 field")
    peak = window.state()["peak_bytes"]
    state = window.wait(lambda s: not s["jobs"] or s["jobs"][0]["state"] == "failed", seconds=900)
    assert "photos" in state["objects"], state["jobs"]
    window.mouse(600, 700)
    time.sleep(8)  # 24 photos and a mesh, drawn without a graphics card
    window.shot("3 finished")
    # Without a graphics card textures, too, lie in Blender's own memory.
    print(f"import and first drawing: {(window.state()['peak_bytes'] - peak) / 1e6:.0f} MB")
    window.press("cameras", "view_through_photo", 1, lambda s: s["view"] == "CAMERA")
    time.sleep(4)
    window.shot("4 through the photo")
    window.order(
        "bpy.context.scene.camera.data.background_images[0].alpha = 0.5; bpy.ops.maquette.edit_mask()"
    )
    time.sleep(6)
    window.shot("5 mask")
    window.order(
        "info = bpy.data.objects['photos'].maquette; import json; "
        "assert json.loads(info.metrics)['silhouette_iou'] >= 0.9, info.metrics"
    )


@pytest.mark.timeout(3600)
def test_real_worker_killed_at_ten_random_moments(real_window):
    """Blender lives, nothing is left behind, no process of the engine survives, and the next click works."""
    window, rng, stages = real_window, random.Random(1), []
    before = window.state()
    for _ in range(10):
        window.press("images", "image_to_mesh", 0, lambda s: s["jobs"])
        state = window.wait(lambda s: s["worker"])
        worker, moment = state["worker"], rng.uniform(0.0, 0.9)
        state = window.wait(lambda s, moment=moment: s["jobs"][0]["progress"] >= moment, seconds=600)
        time.sleep(rng.uniform(0.0, 1.0))
        stages.append(f"{state['jobs'][0]['stage']} {100 * state['jobs'][0]['progress']:.0f} %")
        os.kill(worker, signal.SIGKILL)
        state = window.wait(lambda s: s["jobs"] and s["jobs"][0]["state"] == "failed", seconds=15)
        error = state["jobs"][0]["error"]
        assert error["message"]
        assert error["remedy"]
        assert state["objects"] == before["objects"]
        assert leftovers(window) == []
        assert group_of(worker) == []
        window.order("j = module('operators.jobs'); [j.forget(e.id) for e in j.entries()]; j.redraw()")
        window.wait(lambda s: not s["jobs"])
    print("killed while at:", stages)
    window.press("images", "image_to_mesh", 0, lambda s: s["jobs"])
    state = window.wait(lambda s: not s["jobs"] or s["jobs"][0]["state"] == "failed", seconds=900)
    assert "photos" in state["objects"], state["jobs"]


def group_of(leader):
    """Processes that still belong to a process group."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            alive.append(int(stat.parent.name))
    return alive
