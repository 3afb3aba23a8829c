# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs of this session: how far, how long still, what went wrong, what waits to be imported."""

from __future__ import annotations

from typing import Any

import bpy

from ..core.jobs.registry import DONE, FAILED, QUEUED, Entry
from ..operators import jobs, tasks
from ..operators.tasks import Task
from .sidebar import Sidebar
from .tasks import draw_task
from .text import draw_text, progress_text, words
from .thumbnails import icon_of

PREVIEW_SCALE = 7.0
"""Size of the live picture in rows of the panel."""


class MAQUETTE_PT_progress(Sidebar, bpy.types.Panel):
    """One box a job."""

    bl_label = "Progress"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only while there is something to tell."""
        return bool(jobs.entries()) or bool(_shown_tasks())

    def draw(self, context: bpy.types.Context) -> None:
        """In the order of their start: the engine's one after the other, the others beside it."""
        for task in _shown_tasks():
            draw_task(self.layout, context, task)
        for entry in jobs.entries():
            box = self.layout.box()
            row = box.row()
            row.label(text=entry.title, icon=_icon(entry), translate=False)
            if entry.over:
                row.operator("maquette.dismiss_job", text="", icon="X", emboss=False).job = entry.id
            _draw_state(box, context, entry)
            for text in entry.warnings[-3:]:
                draw_text(box, context, text, icon="ERROR")


def _shown_tasks() -> list[Task]:
    """Those that are not drawn where they belong: downloads at their models, the check at the engine."""
    return [task for task in tasks.tasks() if task.kind.startswith("save ")]


def _icon(entry: Entry) -> Any:
    return {QUEUED: "SORTTIME", DONE: "CHECKMARK", FAILED: "CANCEL"}.get(entry.state, "PLAY")


def _draw_state(box: bpy.types.UILayout, context: bpy.types.Context, entry: Entry) -> None:
    if entry.state == DONE:
        box.operator("maquette.import_result", text="Import", icon="IMPORT").job = entry.id
    elif entry.state == FAILED and entry.error:
        draw_text(box, context, f"{entry.error['message']} {entry.error['remedy']}")
        if entry.log_file:
            box.operator("wm.path_open", text="Open Log", icon="TEXT").filepath = str(entry.log_file)
    else:
        if entry.state == QUEUED:
            before = jobs.registry().place_in_line(entry)
            waiting = words("Waiting for {count} other jobs").format(count=before)
            box.label(text=waiting if before > 1 else "Waiting for another job")
        else:
            text = progress_text(entry.stage, entry.progress, entry.seconds_left)
            box.progress(factor=entry.progress, text=text, type="BAR")
        row = box.row()
        row.enabled = not entry.cancelling
        text = "Cancelling" if entry.cancelling else "Cancel"
        row.operator("maquette.cancel_job", text=text, icon="X").job = entry.id
        if entry.note:  # comes and goes, as the rest does, so it stands where it moves no button
            draw_text(box, context, entry.note[:1].upper() + entry.note[1:])
        if entry.preview is not None:
            box.template_icon(icon_value=icon_of(str(entry.preview)), scale=PREVIEW_SCALE)
        if entry.reused:
            kept = ", ".join(words(stage) for stage in entry.reused)
            text = words("Unchanged since last time: {stages}").format(stages=kept)
            draw_text(box, context, text, icon="CHECKMARK")


CLASSES = (MAQUETTE_PT_progress,)
