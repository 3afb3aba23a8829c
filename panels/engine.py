# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the engine is, and its set-up while it runs."""

from __future__ import annotations

import bpy

from ..operators import check_engine, engine, tasks
from .images import Sidebar
from .tasks import draw_task
from .text import draw_text

ORIGINS = {
    "variable": "Named by MAQUETTE_ENGINE_PYTHON",
    "preferences": "Chosen in the preferences",
    "private": "Maquette's own environment",
    "running": "Blender's own Python",
}


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
        layout.label(text=ORIGINS.get(status.origin, status.origin), icon="CHECKMARK")
        draw_text(layout, context, str(status.python))
        if status.outdated:
            draw_text(layout, context, "It was made for an earlier version. Set it up again.", icon="ERROR")
    elif status.problem is not None:
        draw_text(layout, context, f"{status.problem.message} {status.problem.remedy}", icon="ERROR")
    row = layout.row(align=True)
    row.operator("maquette.set_up_engine", icon="IMPORT")
    row.operator("maquette.look_for_engine", text="", icon="FILE_REFRESH")
    layout.operator("maquette.check_engine", icon="VIEWZOOM")
    task = next((task for task in tasks.tasks() if task.kind == check_engine.KIND), None)
    if task is not None:
        draw_task(layout, context, task)
    for icon, sentence in check_engine.findings():
        draw_text(layout, context, sentence, icon=icon)
    if setup is None:
        return
    if setup.running:
        text = f"{setup.stage.capitalize()}, {100 * setup.progress:.0f} %"
        layout.progress(factor=setup.progress, text=text, type="BAR")
        row = layout.row()
        row.enabled = not setup.cancelling
        row.operator("maquette.cancel_job", icon="X")
    elif setup.error is not None:
        draw_text(layout, context, f"{setup.error.message} {setup.error.remedy}", icon="CANCEL")
    column = layout.box().column(align=True)
    column.scale_y = 0.7
    for line in list(setup.lines)[-6:]:
        column.label(text=line[:90], translate=False)


CLASSES = (MAQUETTE_PT_engine,)
