# SPDX-License-Identifier: GPL-3.0-or-later
"""Switched on and off again, the add-on leaves Blender as it found it."""

from __future__ import annotations

import subprocess
import sys
import threading

import bpy
import pytest

OPERATORS = (
    "add_photos", "remove_photo", "image_to_mesh", "cancel_job", "dismiss_job", "import_result", "view_through_photo",
    "edit_mask", "add_region_box", "set_up_engine", "look_for_engine",
)  # fmt: skip


def traces():
    """Everything of ours that Blender knows."""
    return {
        *(name for name in dir(bpy.types) if "maquette" in name.lower()),
        *(f"ops.{name}" for name in dir(bpy.ops.maquette)),
        *(kind.__name__ for kind in (bpy.types.Scene, bpy.types.Object, bpy.types.Camera) if hasattr(kind, "maquette")),
        *(f"{name}: {f}" for name in ("render_init", "load_post") for f in getattr(bpy.app.handlers, name)),
        *(f for menu in (bpy.types.TOPBAR_MT_file_import, bpy.types.IMAGE_MT_image) for f in menu._dyn_ui_initialize()),
        *(thread.name for thread in threading.enumerate() if "maquette" in thread.name),
    }  # fmt: skip


def test_off_and_on_leaves_nothing(addon):
    for thread in threading.enumerate():
        if "maquette" in thread.name:  # of an engine that a test before this one has just ended
            thread.join(timeout=5)
    registered = traces()
    assert {f"ops.{name}" for name in OPERATORS} <= registered
    addon.unregister()
    nothing = traces()
    addon.register()
    ours = [
        item for item in nothing if "maquette" in str(item).lower() or item in ("Scene", "Object", "Camera")
    ]
    assert ours == []
    assert traces() == registered


@pytest.mark.parametrize("background", ["import bpy", ""])
def test_root_package_loads_neither_blender_nor_torch(background, root):
    """Blender reads the package before it registers it; worker and command line read it without Blender."""
    code = f"""
{background}
import sys, runpy
before = set(sys.modules)
runpy.run_path({str(root / "core" / "jobs" / "bootstrap.py")!r})["load_package"]()
import maquette.core.jobs.registry, maquette.core.jobs.environment, maquette.core.results
print(sorted(m for m in set(sys.modules) - before if m.split(".")[0] in ("bpy", "torch", "scipy", "trimesh", "PIL")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_blender_process_stays_light(module):
    """Registered and drawn, Blender's process holds numpy and nothing heavier."""
    module("operators.jobs").registry()
    assert not {"torch", "scipy", "trimesh", "PIL", "cv2", "pycolmap"} & set(sys.modules)
