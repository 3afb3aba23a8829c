# SPDX-License-Identifier: GPL-3.0-or-later
"""Work without an engine as panels show it: how far, how long still, what went wrong."""

from __future__ import annotations

from typing import Any

import bpy

from ..core.errors import Cancelled
from ..operators.tasks import Task
from .text import draw_text, progress_text


def draw_task(layout: bpy.types.UILayout, context: bpy.types.Context, task: Task) -> None:
    """One box, with a button to cancel or to dismiss it."""
    box: Any = layout.box()
    row = box.row()
    row.label(text=task.title, icon="CANCEL" if task.over else "IMPORT", translate=False)
    if task.over:
        row.operator("maquette.dismiss_job", text="", icon="X", emboss=False).job = task.id
        if task.error is not None and not isinstance(task.error, Cancelled):
            draw_text(box, context, f"{task.error.message} {task.error.remedy}")
        return
    text = progress_text(task.stage, task.progress, task.seconds_left)
    box.progress(factor=task.progress, text=text, type="BAR")
    if task.note:
        box.label(text=task.note, translate=False)
    row = box.row()
    row.enabled = not task.cancelling
    text = "Cancelling" if task.cancelling else "Cancel"
    row.operator("maquette.cancel_job", text=text, icon="X").job = task.id
    for text in task.warnings[-3:]:
        draw_text(box, context, text, icon="ERROR")
