# SPDX-License-Identifier: GPL-3.0-or-later
"""Add Region Box: an empty cube whose bounds limit the next mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy
from mathutils import Vector

from .settings import result_info, scene_state

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_add_region_box(bpy.types.Operator):
    """Add a box around the active object, or one metre in size; only what lies inside it is meshed next time"""

    bl_idname = "maquette.add_region_box"
    bl_label = "Add Region Box"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """As every new object."""
        if context.mode != "OBJECT":
            cls.poll_message_set("Switch to Object mode first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Move and scale it like any object."""
        low, high = Vector((-0.5, -0.5, 0.0)), Vector((0.5, 0.5, 1.0))
        active = context.active_object
        if active is not None and active.type == "MESH" and result_info(active).schema:
            corners = [active.matrix_world @ Vector(corner) for corner in active.bound_box]
            low = Vector([min(c[axis] for c in corners) for axis in range(3)])
            high = Vector([max(c[axis] for c in corners) for axis in range(3)])
        box = bpy.data.objects.new("Region Box", None)
        box.empty_display_type = "CUBE"
        box.empty_display_size = 0.5  # a cube one unit wide, so scale is size
        box.location = (low + high) / 2
        box.scale = [max(high[axis] - low[axis], 1e-3) for axis in range(3)]
        context.collection.objects.link(box)
        context.view_layer.update()
        options = scene_state(context.scene).mesh
        options.region_box, options.use_region = box, True
        for item in context.selected_objects:
            item.select_set(False)
        box.select_set(True)
        context.view_layer.objects.active = box
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_add_region_box,)
