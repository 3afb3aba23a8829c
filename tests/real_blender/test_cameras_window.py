# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras in a real Blender's window, engine stood in for: the panel, an alignment and its undo, a sequence, an orientation."""

from __future__ import annotations

import importlib
import json
import time

import numpy as np
import pytest
from maquette.core.results import camera_as_json
from maquette.core.types import Camera

from tests.blender.ball import look_at, write_take
from tests.real_blender.window import Window

pytestmark = [pytest.mark.real_blender, pytest.mark.timeout(900)]

TELL = """
import json
camera = bpy.data.objects['Camera']
roots = [o for o in bpy.data.objects if o.type == 'EMPTY' and o.maquette.schema]
open({path!r}, 'w').write(json.dumps({{
    'matrix': [list(row) for row in camera.matrix_world], 'lens': camera.data.lens,
    'backgrounds': len(camera.data.background_images), 'grade': camera.data.maquette.grade,
    'root': [list(row) for row in roots[0].matrix_world] if roots else None,
}}))
"""


@pytest.fixture
def window(tool, version, stage_folder, archive, monkeypatch):
    """Blender with our tab open and the default cube before the default camera."""
    goal = Camera(
        "photo 0.png", 320, 240, 500.0, 500.0, 163.0, 118.0, look_at((4.0, -3.0, 2.0)), grade="good"
    )
    monkeypatch.setenv("MAQUETTE_TEST_CAMERA", json.dumps(camera_as_json(goal)))
    write_take(stage_folder / "take", lambda name: importlib.import_module(f"maquette.{name}"), (1, 2, 3, 5))
    window = Window(tool, version, stage_folder, archive, seconds=3.0)
    window.goal = goal
    try:
        yield window
    finally:
        window.close()


def told(window):
    path = window.folder / "told.json"
    path.unlink(missing_ok=True)
    window.order(TELL.format(path=str(path)))
    return json.loads(path.read_text())


def test_align_look_and_undo(window):
    photo = str(window.folder / "photos" / "photo 0.png")
    before = told(window)
    window.order(f"bpy.ops.maquette.align_camera('INVOKE_DEFAULT', filepath={photo!r})")
    window.wait(
        lambda s: s["camera"] == "Camera" and s["render"] == [320, 240] and not s["jobs"], seconds=120
    )
    after = told(window)
    flipped = window.goal.cam_to_world @ np.diag([1, -1, -1, 1])
    assert np.allclose(after["matrix"], flipped, atol=1e-5)
    assert after["lens"] == pytest.approx(500 / 320 * 36, rel=1e-5)
    assert (after["backgrounds"], after["grade"]) == (1, "good")
    window.order("bpy.context.space_data.region_3d.view_perspective = 'CAMERA'")
    time.sleep(3)
    window.shot("1 aligned")
    window.mouse(300, 260)
    window.key("ctrl+z")
    time.sleep(1)
    undone = told(window)
    for name in ("matrix", "lens", "backgrounds", "grade"):
        assert undone[name] == before[name], name
    assert window.state()["render"] != [320, 240]
    window.key("ctrl+shift+z")
    time.sleep(1)
    assert told(window)["matrix"] == after["matrix"]


def test_a_take_its_panel_orientation_and_sequence(window):
    window.order("bpy.context.scene.maquette.photos.clear()")
    window.order(
        f"bpy.ops.maquette.import_result('EXEC_DEFAULT', True, directory={str(window.folder / 'take')!r})"
    )
    time.sleep(3)
    window.shot("2 take")
    before = told(window)
    window.order("bpy.ops.maquette.orient('EXEC_DEFAULT', True, method='CAMERAS')")
    assert told(window)["root"] != before["root"]
    window.mouse(300, 260)
    window.key("ctrl+z")
    time.sleep(1)
    assert told(window)["root"] == before["root"]
    window.order("bpy.ops.maquette.animated_camera('EXEC_DEFAULT', True)")
    window.order(
        "bpy.context.space_data.region_3d.view_perspective = 'CAMERA'; bpy.context.scene.frame_set(4)"
    )
    time.sleep(3)
    window.shot("3 sequence")
    window.mouse(300, 260)
    window.key("ctrl+z")
    window.wait(lambda s: not any("Animated" in name for name in s["objects"]))
