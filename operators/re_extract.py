# SPDX-License-Identifier: GPL-3.0-or-later
"""Re-Extract: another mesh from a result's stored field, at another threshold, resolution, box or face budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import BoolProperty, FloatProperty, IntProperty

from ..core.errors import InputError, MaquetteError
from ..core.jobs.request import Request
from ..core.results import read_result
from . import engine, jobs
from .mesh_settings import region_in_result
from .reports import refuse
from .settings import FACE_BUDGET, USE_REGION, result_info, scene_state
from .view_through_photo import result_root

if TYPE_CHECKING:
    from .reports import Outcome


class MAQUETTE_OT_re_extract(bpy.types.Operator):
    """Make the mesh again from the field kept with the result, without its photos or any model; the old mesh is hidden"""

    bl_idname = "maquette.re_extract"
    bl_label = "Re-Extract"
    bl_options = {"REGISTER"}  # the import that follows is the undo step

    use_threshold: BoolProperty(
        name="Own Threshold", description="Cut the field at another value than the usual one"
    )
    threshold: FloatProperty(
        name="Threshold",
        description="Value of the field on the surface: a higher density makes a thinner object, a higher distance a thicker one",
        default=25.0,
        soft_min=-1.0,
        soft_max=100.0,
    )
    resolution: IntProperty(
        name="Resolution",
        description="Cells along the longest side; 0 leaves it to Quality",
        min=0,
        max=2048,
    )
    face_budget: FACE_BUDGET
    use_region: USE_REGION

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A result with a field has to be chosen, and the engine there."""
        root = result_root(context)
        if root is None:
            cls.poll_message_set("Select an object of a result")
            return False
        if not result_info(root).has_field:
            cls.poll_message_set("This result has no field to make a mesh from. Press Image to Mesh")
            return False
        return engine.is_ready(cls)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Outcome:
        """Ask first."""
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, context: bpy.types.Context) -> None:
        """The threshold only where it is wanted."""
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "resolution")
        layout.prop(self, "face_budget")
        layout.prop(self, "use_threshold")
        row = layout.row()
        row.active = self.use_threshold
        row.prop(self, "threshold")
        if scene_state(context.scene).mesh.region_box is not None:
            layout.prop(self, "use_region")

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start the job; without a window also wait for it and import what it made."""
        options, root = scene_state(context.scene).mesh, result_root(context)
        folder = Path(result_info(root).folder)
        try:
            if read_result(folder).field_file is None:
                raise InputError(
                    "NO_FIELD", f"{root.name} was saved without its field.", "Make it again from its photos."
                )
            box = options.region_box if self.use_region else None
            settings = {
                "threshold": self.threshold if self.use_threshold else None,
                "resolution": self.resolution,
                "face_budget": self.face_budget,
                "texture_size": options.texture_size,
                "region": region_in_result(box, root) if box is not None else [],
                "quality": options.quality,
                "device": options.device,
                "seed": 0,
            }
            title = folder.name
            request = Request("extract", (str(folder),), settings, out=str(jobs.new_result_folder(title)))
        except MaquetteError as error:
            return refuse(self, error)
        return jobs.start(self, context.scene, request, title)


CLASSES = (MAQUETTE_OT_re_extract,)
