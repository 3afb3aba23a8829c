# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads in a real Blender's window with the real engine: every button of the panels clicked, one job cancelled, undo, redo."""

from __future__ import annotations

import time

import pytest

from tests.real_blender.window import Window

pytestmark = [pytest.mark.real_blender, pytest.mark.timeout(2400)]

OPTIONS = "bpy.context.scene.maquette_heads"
HEADS = (
    "sorted(o.name for o in bpy.data.objects if o.type == 'MESH' and o.maquette.method.startswith('head'))"
)


@pytest.fixture
def window(tool, version, stage_folder, archive):
    """An empty list of photos, the default cube hidden, quality draft."""
    window = Window(tool, version, stage_folder, archive, seconds=None)
    try:
        window.order(
            "bpy.data.objects['Cube'].hide_set(True)\ns = bpy.context.scene.maquette; s.photos.clear()\n"
            "s.mesh.quality = 'draft'; bpy.context.scene.maquette_heads.count = 2\n"
            "bpy.ops.ed.undo_push(message='heads')"
        )
        yield window
    finally:
        window.close()


def made(window, panel, name, number=0, seconds=240.0):
    """Names of the heads that one click brought, once its job is done; where it brings none, those there were."""
    before = window.value(HEADS)
    window.press(panel, name, number, lambda s: s["jobs"], seconds=20)
    state = window.wait(lambda s: not s["jobs"] or s["jobs"][0]["state"] == "failed", seconds)
    assert not state["jobs"], state["jobs"]
    return [name for name in window.value(HEADS) if name not in before] or before


def look_at(window, name):
    """The head fills the viewport, from in front, with its colours."""
    window.order(
        f"o = bpy.data.objects[{name!r}]; bpy.ops.object.select_all(action='DESELECT'); o.select_set(True)\n"
        "bpy.context.view_layer.objects.active = o\n"
        "for other in bpy.data.objects:\n    other.hide_set(other != o)\n"
        "space = bpy.context.area.spaces[0]; space.shading.type = 'MATERIAL'\n"
        "bpy.ops.view3d.view_axis(type='FRONT'); bpy.ops.view3d.view_selected()"
    )
    for step in range(8):  # shaders are compiled while it draws, and a still mouse draws nothing
        window.mouse(300 + 10 * step, 700)
        time.sleep(2)


def test_generate(window):
    """A head, its undo and redo; a gallery and one of it; the orbit; a mix of two heads."""
    window.show_only("generate_head")
    first = made(window, "generate_head", "generate_head")
    assert first == ["Head 0"]
    assert window.undo()["objects"] and window.value(HEADS) == []
    window.undo(redo=True)
    assert window.value(HEADS) == first
    made(window, "generate_head", "head_gallery")
    assert window.value(f"[row.seed for row in {OPTIONS}.gallery]") == [0, 1]
    second = made(window, "generate_head", "use_head", 1)
    assert second == ["Head 1"]
    made(window, "generate_head", "orbit_head")
    assert window.value(f"len({OPTIONS}.orbit)") == 36
    window.order(f"{OPTIONS}.yaw = 0.6")
    look_at(window, "Head 1")
    window.picture("1 generate")
    window.press("generate_head", "clear_gallery", 0, lambda s: window.value(f"len({OPTIONS}.gallery)") == 0)
    window.undo()
    assert window.value(f"len({OPTIONS}.gallery)") == 2
    window.order(f"{OPTIONS}.mix_with = bpy.data.objects['Head 0']; bpy.ops.ed.undo_push(message='mix with')")
    mixed = made(window, "generate_head", "mix_heads")
    assert len(mixed) == 1
    look_at(window, mixed[0])
    window.picture("2 mixed")


def test_from_a_photo_and_blended(window):
    """A portrait, cancelled once; its hair on another head; a region painted."""
    window.show_only("generate_head")
    (head,) = made(window, "generate_head", "generate_head")
    window.order(
        f"import pathlib; folder = pathlib.Path(bpy.path.abspath(bpy.data.objects[{head!r}].maquette.folder))\n"
        "module('operators.inputs').list_photos(bpy.context.scene, [folder / 'picture.png'])"
    )
    window.show_only("heads")
    window.press("heads", "head_from_photo", 0, lambda s: s["jobs"], seconds=20)
    window.wait(lambda s: s["jobs"] and s["jobs"][0]["stage"] == "latent", seconds=60)
    window.show_only("progress")
    time.sleep(5)
    window.picture("1 portrait at work")
    window.press("progress", "cancel_job", 0, lambda s: not s["jobs"])
    assert window.value(HEADS) == [head]
    window.show_only("heads")
    (twin,) = made(window, "heads", "head_from_photo", seconds=600)
    window.order(f"{OPTIONS}.seed = 1")
    window.show_only("generate_head")
    (other,) = made(window, "generate_head", "generate_head")
    window.show_only("blend_heads")
    window.order(
        f"o = {OPTIONS}; o.original = bpy.data.objects[{twin!r}]; o.reference = bpy.data.objects[{other!r}]\n"
        "bpy.ops.ed.undo_push(message='chosen')"
    )
    window.press("blend_heads", "paint_region")
    time.sleep(3)
    window.picture("2 painting")
    assert window.value(f"{OPTIONS}.region") == "MASK"
    window.close_second()
    window.order(f"{OPTIONS}.region = 'hair'")
    (blend,) = made(window, "blend_heads", "blend_heads", seconds=900)
    look_at(window, blend)
    window.picture("3 blend")
    window.show_only("head_facts", "result")
    window.picture("4 facts")
    window.undo()
    assert blend not in window.value(HEADS)
