# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered viewports: when Cycles starts in one, the engine gives the GPU back, as it does for a render (`operators.jobs`)."""

from __future__ import annotations

from typing import Any

import bpy

from . import jobs

_owner = object()
"""Stands for us in Blender's message bus."""


def cycles_is_drawing() -> bool:
    """Whether some viewport shows what Cycles renders."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            space: Any = area.spaces.active
            if area.type == "VIEW_3D" and space.shading.type == "RENDERED":
                return str(window.scene.render.engine) == "CYCLES"
    return False


def _changed() -> None:
    if cycles_is_drawing():
        jobs.release_engine()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _subscribe(*_: object) -> None:
    """Loading a file empties the message bus."""
    bpy.msgbus.clear_by_owner(_owner)
    for key in ((bpy.types.View3DShading, "type"), (bpy.types.RenderSettings, "engine")):
        bpy.msgbus.subscribe_rna(key=key, owner=_owner, args=(), notify=_changed, options={"PERSISTENT"})


def register() -> None:
    """From now on, and anew with every file."""
    _subscribe()
    bpy.app.handlers.load_post.append(_subscribe)


def unregister() -> None:
    """The reverse."""
    bpy.app.handlers.load_post.remove(_subscribe)
    bpy.msgbus.clear_by_owner(_owner)
