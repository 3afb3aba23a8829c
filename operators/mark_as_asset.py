# SPDX-License-Identifier: GPL-3.0-or-later
"""Mark as Asset: a result's mesh in the asset browser, with a picture, its model and its licence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy
import numpy as np

from .preview_picture import SIZE, picture_of
from .versions import chosen_info, chosen_mesh

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_mark_as_asset(bpy.types.Operator):
    """Offer this mesh in the asset browser with a picture of it; model and licence are noted there"""

    bl_idname = "maquette.mark_as_asset"
    bl_label = "Mark as Asset"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A mesh of a result in this file."""
        mesh = chosen_mesh(context)
        if mesh is None:
            cls.poll_message_set("Select a mesh of a result")
            return False
        if mesh.library is not None:
            cls.poll_message_set("This mesh belongs to another file; mark it there")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Marking again renews the picture."""
        mesh, info = chosen_mesh(context), chosen_info(context)
        if not len(mesh.data.polygons):
            self.report({"ERROR"}, f"{mesh.name} has no faces. Choose a mesh that has some.")
            return {"CANCELLED"}
        mesh.asset_mark()
        about: Any = mesh.asset_data
        about.description = " ".join(
            part for part in ("Made with Maquette.", info.model and f"Model: {info.model}.") if part
        )
        about.license = info.licence
        if "Maquette" not in about.tags:
            about.tags.new("Maquette")
        preview: Any = mesh.preview_ensure()
        preview.image_size = (SIZE, SIZE)
        preview.image_pixels_float.foreach_set(np.ascontiguousarray(picture_of(mesh)).ravel())
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_mark_as_asset,)
