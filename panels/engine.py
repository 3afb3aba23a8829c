# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the engine is, and its set-up while it runs."""

from __future__ import annotations

import bpy

from ..operators import check_engine, engine, tasks
from ..operators.settings import preferences
from .sidebar import Sidebar
from .tasks import draw_task
from .text import draw_text, progress_text

ORIGINS = {
    "variable": "Named by MAQUETTE_ENGINE_PYTHON",
    "preferences": "Chosen in the preferences",
    "private": "Maquette's own environment",
    "running": "Blender's own Python",
}

OFFLINE = "Blender may not use the network. Allow Online Access in Preferences > System, or choose a folder with the files."
"""Why Set Up Engine is grey; above the folder's field."""


class MAQUETTE_PT_engine(Sidebar, bpy.types.Panel):
    """Status, log, buttons."""

    bl_label = "Engine"
    bl_idname = "MAQUETTE_PT_engine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """What there is, else how to get it."""
        draw_engine(self.layout, context)


def draw_engine(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The same in the sidebar and in the preferences."""
    status, setup = engine.engine_status(), engine.engine_setup()
    if status.python is not None:
        draw_text(layout, context, ORIGINS.get(status.origin, status.origin), icon="CHECKMARK")
        draw_text(layout, context, str(status.python))
        if status.outdated:
            draw_text(layout, context, "It was made for an earlier version. Set it up again.", icon="ERROR")
    elif status.problem is not None:
        draw_text(layout, context, f"{status.problem.message} {status.problem.remedy}", icon="ERROR")
    draw_set_up(layout, context)
    row = layout.row(align=True)
    row.operator("maquette.check_engine", icon="VIEWZOOM")
    row.operator("maquette.look_for_engine", text="", icon="FILE_REFRESH")
    task = next((task for task in tasks.tasks() if task.kind == check_engine.KIND), None)
    if task is not None:
        draw_task(layout, context, task)
    for icon, sentence in check_engine.findings():
        draw_text(layout, context, sentence, icon=icon)
    if setup is None:
        return
    column = layout.box().column(align=True)
    column.scale_y = 0.7
    for line in list(setup.lines)[-6:]:
        column.label(text=line[:90], translate=False)


def draw_set_up(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The button, or how far the set-up is; what hinders it, and what went wrong the last time.

    Also where the photos are, while there is no engine: an artist need not look for it.
    """
    setup, chosen = engine.engine_setup(), preferences()
    if setup is not None and setup.running:
        text = progress_text(setup.stage or "starting", setup.progress)
        layout.progress(factor=setup.progress, text=text, type="BAR")
        row = layout.row()
        row.enabled = not setup.cancelling
        row.operator("maquette.cancel_job", text="Cancelling" if setup.cancelling else "Cancel", icon="X")
        return
    layout.operator("maquette.set_up_engine", icon="IMPORT")
    if setup is not None and setup.error is not None:
        draw_text(layout, context, f"{setup.error.message} {setup.error.remedy}", icon="CANCEL")
    if chosen is not None and engine.engine_status().python is None and not bpy.app.online_access:
        draw_text(layout, context, OFFLINE, icon="INFO")
        layout.prop(chosen, "wheel_folder", text="", placeholder="Wheel Folder")


CLASSES = (MAQUETTE_PT_engine,)
