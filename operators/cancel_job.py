# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancel by button or Esc, and clearing jobs that are over off the list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy
from bpy.props import StringProperty

from ..core.jobs.registry import QUEUED, RUNNING
from . import engine, jobs, tasks
from .reports import ours

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_cancel_job(bpy.types.Operator):
    """Stop this job; nothing of it stays"""

    bl_idname = "maquette.cancel_job"
    bl_label = "Cancel"

    job: StringProperty(name="Job", description="Empty: the one that runs", options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Something has to run."""
        setup = engine.engine_setup()
        at_work = any(not entry.over for entry in jobs.entries()) or tasks.busy()
        if at_work or (setup is not None and setup.running):
            return True
        cls.poll_message_set("Nothing is running")
        return False

    def execute(self, context: bpy.types.Context) -> Outcome:
        """The job named, else the running one, else the next in line, else the engine's set-up."""
        setup = engine.engine_setup()
        waiting = [e for state in (RUNNING, QUEUED) for e in jobs.entries() if e.state == state]
        job = self.job or (waiting[0].id if waiting else "")
        task = tasks.find(job)
        if task is not None:
            task.cancel()
            jobs.watch()
        elif job:
            jobs.registry().cancel(job)
            jobs.watch()
        elif setup is not None:
            setup.cancel()
        jobs.redraw()
        return {"FINISHED"}


class MAQUETTE_OT_dismiss_job(bpy.types.Operator):
    """Take this job off the list; a result that it made stays on disk"""

    bl_idname = "maquette.dismiss_job"
    bl_label = "Dismiss"

    job: StringProperty(name="Job", options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Only the list changes."""
        task = tasks.find(self.job)
        if task is not None:
            tasks.forget(task)
        else:
            jobs.forget(self.job)
        return {"FINISHED"}


class MAQUETTE_OT_listen_for_escape(bpy.types.Operator):
    """While a job runs, Esc over a 3D viewport cancels it"""

    bl_idname = "maquette.listen_for_escape"
    bl_label = "Cancel with Esc"
    bl_options = {"INTERNAL"}

    _listening = False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """One listener is enough. It has no timer: it sees only what no other tool has taken."""
        cls = type(self)
        if cls._listening or context.window is None:
            return {"CANCELLED"}
        cls._listening = True
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """Everything passes through but Esc over a viewport."""
        if all(entry.over for entry in jobs.entries()):
            self.cancel(context)
            return {"FINISHED", "PASS_THROUGH"}
        if event.type == "ESC" and event.value == "PRESS" and _over_viewport(context, event):
            ours.cancel_job()
            return {"RUNNING_MODAL"}
        return {"PASS_THROUGH"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Also called by Blender when a file is loaded; the button stays."""
        type(self)._listening = False


def _over_viewport(context: bpy.types.Context, event: bpy.types.Event) -> bool:
    return any(
        area.type == "VIEW_3D"
        and area.x <= event.mouse_x < area.x + area.width
        and area.y <= event.mouse_y < area.y + area.height
        for area in context.screen.areas
    )


CLASSES = (MAQUETTE_OT_cancel_job, MAQUETTE_OT_dismiss_job, MAQUETTE_OT_listen_for_escape)
