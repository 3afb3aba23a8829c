# SPDX-License-Identifier: GPL-3.0-or-later
"""Add Region Box: an empty cube whose bounds limit the next mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy
from mathutils import Vector

from .settings import scene_state
from .view_through_photo import result_root

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_add_region_box(bpy.types.Operator):
    """Add a box around the active result, or one metre in size; only what lies inside it is meshed next time"""

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
        root = result_root(context)
        meshes = [child for child in root.children if child.type == "MESH"] if root is not None else []
        corners = [mesh.matrix_world @ Vector(corner) for mesh in meshes for corner in mesh.bound_box]
        if corners:
            low, high = (Vector([f(c[axis] for c in corners) for axis in range(3)]) for f in (min, max))
        box = bpy.data.objects.new("Region Box", None)
        box.empty_display_type = "CUBE"
        box.empty_display_size = 0.5  # a cube one unit wide, so scale is size
        box.location = (low + high) / 2
        box.scale = [max(high[axis] - low[axis], 1e-3) for axis in range(3)]
        if root is not None:  # it means this result's world and moves along with it
            box.parent = root
            box.matrix_parent_inverse = root.matrix_world.inverted()
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
