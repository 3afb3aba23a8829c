# SPDX-License-Identifier: GPL-3.0-or-later
"""View Through Photo: step through a result's cameras with the photo behind the mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import EnumProperty, StringProperty

from .cameras import cameras_of, look_through
from .settings import result_info

if TYPE_CHECKING:
    from .reports import Outcome


def result_root(context: bpy.types.Context) -> Any:
    """The root of the result that the active object belongs to, else of the scene's camera; None without one."""
    for item in (context.active_object, context.scene.camera):
        root = item.parent or item if item is not None else None
        if root is not None and result_info(root).schema and root.type == "EMPTY":
            return root
    return None


class MAQUETTE_OT_view_through_photo(bpy.types.Operator):
    """Look through a solved camera: it becomes the scene's camera, the render gets its photo's size"""

    bl_idname = "maquette.view_through_photo"
    bl_label = "View Through Photo"
    bl_options = {"REGISTER", "UNDO"}

    step: EnumProperty(
        name="Step",
        items=[
            ("THIS", "This", "The scene's camera, or the first"),
            ("NEXT", "Next", "The next photo"),
            ("PREVIOUS", "Previous", "The photo before"),
        ],
        options={"SKIP_SAVE"},
    )
    camera: StringProperty(name="Camera", description="Name of a camera object", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A result with cameras has to be there."""
        root = result_root(context)
        if root is None or not cameras_of(root):
            cls.poll_message_set("Select an object of a result that has cameras")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Choose, then look."""
        cameras = cameras_of(result_root(context))
        names = [item.name for item in cameras]
        if self.camera and self.camera not in names:
            self.report({"ERROR"}, f"This result has no camera {self.camera}. Choose another.")
            return {"CANCELLED"}
        present = context.scene.camera.name if context.scene.camera else ""
        at = names.index(present) if present in names else 0
        if self.camera:
            at = names.index(self.camera)
        elif present in names:
            at = (at + {"THIS": 0, "NEXT": 1, "PREVIOUS": -1}[self.step]) % len(names)
        look_through(context.scene, cameras[at])
        _show_camera_view(context)
        return {"FINISHED"}


def _show_camera_view(context: bpy.types.Context) -> None:
    """In the viewport that was clicked, else in every one of the window."""
    if context.area is not None and context.area.type == "VIEW_3D":
        areas = [context.area]
    else:
        areas = [area for area in context.screen.areas if area.type == "VIEW_3D"] if context.screen else []
    for area in areas:
        space: Any = area.spaces.active
        space.region_3d.view_perspective = "CAMERA"


CLASSES = (MAQUETTE_OT_view_through_photo,)
