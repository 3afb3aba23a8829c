# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos dropped on a 3D viewport."""

from __future__ import annotations

import bpy

from ..operators.inputs import SUFFIXES


class MAQUETTE_FH_photos(bpy.types.FileHandler):
    """Blender offers it beside its own handlers for images."""

    bl_idname = "MAQUETTE_FH_photos"
    bl_label = "Image to Mesh"
    bl_import_operator = "maquette.image_to_mesh"
    bl_file_extensions = ";".join(SUFFIXES)

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """On a 3D viewport, in any mode: what the job makes waits for Object mode."""
        return context.area is not None and context.area.type == "VIEW_3D"


CLASSES = (MAQUETTE_FH_photos,)
