# SPDX-License-Identifier: GPL-3.0-or-later
"""Set Up Engine: the private environment with torch, from the network or from a wheel folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from . import engine, jobs, models
from .reports import refuse
from .settings import preferences

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_set_up_engine(bpy.types.Operator):
    """Make the engine's own Python environment: about 1 GB to download, several minutes"""

    bl_idname = "maquette.set_up_engine"
    bl_label = "Set Up Engine"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Either the network may be used or the files are there; one set-up at a time."""
        setup, ours = engine.engine_setup(), preferences()
        if setup is not None and setup.running:
            cls.poll_message_set("The engine is being set up")
            return False
        if not bpy.app.online_access and not (ours and ours.wheel_folder):
            cls.poll_message_set(
                "Allow Online Access in Preferences > System > Network, or choose a wheel folder in Maquette's preferences"
            )
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start; without a window also wait."""
        chosen = preferences()
        base, wheels = (_path(chosen, name) for name in ("base_python", "wheel_folder"))
        setup = engine.start_setup(base, wheels, bpy.app.online_access)
        jobs.watch()
        if bpy.app.background:
            setup.wait()
            engine.look_again()
            if setup.error is not None:
                return refuse(self, setup.error)
        return {"FINISHED"}


def _path(chosen: Any, name: str) -> Path | None:
    text = getattr(chosen, name, "")
    return Path(bpy.path.abspath(text)) if text else None


class MAQUETTE_OT_look_for_engine(bpy.types.Operator):
    """Search for the engine and the models again, after files were changed outside of Blender"""

    bl_idname = "maquette.look_for_engine"
    bl_label = "Look Again"

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Files only."""
        engine.look_again()
        models.look_again()
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_set_up_engine, MAQUETTE_OT_look_for_engine)
