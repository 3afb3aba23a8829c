# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras in the order of work: found from photos or aligned to geometry, looked through, set upright, animated."""

from __future__ import annotations

from typing import Any

import bpy

from ..operators.align_camera import background_photo, chosen_camera
from ..operators.settings import camera_info, scene_state
from ..operators.view_through_photo import result_root
from .sidebar import Sidebar
from .text import draw_text

GRADE_ICONS = {"good": "CHECKMARK", "doubtful": "ERROR", "failed": "CANCEL"}


class MAQUETTE_UL_cameras(bpy.types.UIList):
    """The cameras among the objects of a result's collection."""

    def draw_item(
        self, context: Any, layout: Any, data: Any, item: Any, icon: Any, active_data: Any, active_property: Any,
        index: Any = 0, flt_flag: Any = 0,
    ) -> None:  # fmt: skip
        """Photo, grade, match, and a button to look through it."""
        info = camera_info(item)
        row = layout.row()
        row.label(text=info.photo, icon=GRADE_ICONS[info.grade], translate=False)
        right = row.row(align=True)
        right.alignment = "RIGHT"  # as wide as it needs; the name gets the rest
        if info.silhouette_iou >= 0:
            right.label(text=f"{info.silhouette_iou:.3f}", translate=False)
        looking = context.scene.camera == item
        icon = "OUTLINER_OB_CAMERA" if looking else "CAMERA_DATA"
        right.operator("maquette.view_through_photo", text="", icon=icon, emboss=False).camera = item.name

    def filter_items(self, context: Any, data: Any, property: Any) -> Any:  # noqa: A002 - Blender's name
        """(flags, order): cameras with a photo whose name holds what was typed, in the order of their names."""
        objects = getattr(data, property)
        wanted = self.filter_name.lower()
        shown = [
            o.type == "CAMERA" and bool(camera_info(o).photo) and wanted in camera_info(o).photo.lower()
            for o in objects
        ]
        flags = [self.bitflag_filter_item if keep else 0 for keep in shown]
        return flags, bpy.types.UI_UL_list.sort_items_by_name(objects, "name")


class MAQUETTE_PT_cameras(Sidebar, bpy.types.Panel):
    """Photos of the list to cameras, and the cameras of the chosen result."""

    bl_label = "Cameras"
    bl_idname = "MAQUETTE_PT_cameras"

    def draw(self, context: bpy.types.Context) -> None:
        """The button; then, where there is a result: step, list, what failed, and how the photo is shown."""
        layout, root, scene = self.layout, result_root(context), context.scene
        layout.operator("maquette.estimate_poses", icon="OUTLINER_DATA_CAMERA")
        if root is None:
            return
        row = layout.row(align=True)
        row.operator("maquette.view_through_photo", text="", icon="TRIA_LEFT").step = "PREVIOUS"
        row.operator("maquette.view_through_photo").step = "THIS"
        row.operator("maquette.view_through_photo", text="", icon="TRIA_RIGHT").step = "NEXT"
        if root.users_collection:
            collection = root.users_collection[0]
            state = scene_state(scene)
            layout.template_list(
                "MAQUETTE_UL_cameras", "", collection, "objects", state, "active_camera", rows=4
            )
        self._draw_looked_through(context)

    def _draw_looked_through(self, context: bpy.types.Context) -> None:
        layout, camera = self.layout, context.scene.camera
        if camera is None or camera.type != "CAMERA":
            return
        info = camera_info(camera)
        if info.reason:
            draw_text(layout, context, f"{info.photo}: {info.reason}", icon=GRADE_ICONS[info.grade])
        layout.use_property_split = True
        layout.use_property_decorate = False
        if info.photo:
            layout.operator("maquette.edit_mask", icon="BRUSH_DATA")
        data: Any = camera.data
        for background in data.background_images[:1]:
            layout.prop(background, "alpha", text="Photo Opacity", slider=True)
            layout.prop(background, "display_depth", text="Photo Depth", expand=True)


class MAQUETTE_PT_poses(Sidebar, bpy.types.Panel):
    """How cameras are found from photos; photos, masks and quality are those of the mesh."""

    bl_label = "Estimation"
    bl_idname = "MAQUETTE_PT_poses"
    bl_parent_id = "MAQUETTE_PT_cameras"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Two choices."""
        layout, options = self.layout, scene_state(context.scene).poses
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(options, "method")
        layout.prop(options, "use_sequence")


class MAQUETTE_PT_orient(Sidebar, bpy.types.Panel):
    """Up, floor and size of a result."""

    bl_label = "Orient"
    bl_idname = "MAQUETTE_PT_orient"
    bl_parent_id = "MAQUETTE_PT_cameras"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """From what needs no points to what needs some."""
        column = self.layout.column(align=True)
        column.operator(
            "maquette.orient", text="Upright by Cameras", icon="ORIENTATION_GLOBAL"
        ).method = "CAMERAS"
        column.operator("maquette.orient", text="Floor by Three Points", icon="MESH_PLANE").method = "FLOOR"
        column.operator(
            "maquette.orient", text="Size by Two Points", icon="DRIVER_DISTANCE"
        ).method = "LENGTH"
        self.layout.operator("maquette.add_point", icon="EMPTY_AXIS")


class MAQUETTE_PT_sequence(Sidebar, bpy.types.Panel):
    """A moving camera."""

    bl_label = "Sequence"
    bl_idname = "MAQUETTE_PT_sequence"
    bl_parent_id = "MAQUETTE_PT_cameras"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Its options are in the panel that follows a click."""
        self.layout.operator("maquette.animated_camera", icon="ANIM")


class MAQUETTE_PT_align(Sidebar, bpy.types.Panel):
    """One camera to one photo."""

    bl_label = "Align Camera"
    bl_idname = "MAQUETTE_PT_align"
    bl_parent_id = "MAQUETTE_PT_cameras"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Which camera and photo, how, the button, and what came of it."""
        layout, options = self.layout, scene_state(context.scene).align
        layout.use_property_split = True
        layout.use_property_decorate = False
        camera = chosen_camera(context)
        if camera is None:
            draw_text(layout, context, "Select a camera, or make one the scene's camera", icon="INFO")
        else:
            photo = background_photo(camera)
            column = layout.column(align=True)
            column.label(text=camera.name, icon="CAMERA_DATA", translate=False)
            if photo is not None:
                column.label(text=photo.name, icon="IMAGE_DATA", translate=False)
            else:
                column.label(text="No picture behind it", icon="IMAGE_DATA")
        layout.prop(options, "lens")
        layout.prop(options, "mask_mode")
        layout.prop(options, "use_selected")
        layout.prop(options, "use_anywhere")
        row = layout.row(align=True)
        row.operator("maquette.align_camera", icon="CON_CAMERASOLVER").use_browser = False
        row.operator("maquette.align_camera", text="", icon="FILE_FOLDER").use_browser = True
        if camera is not None and camera_info(camera).reprojection_px >= 0 and camera.parent is None:
            info = camera_info(camera)
            draw_text(
                layout,
                context,
                f"{info.grade.capitalize()}, {info.reprojection_px:.1f} pixels off",
                icon=GRADE_ICONS[info.grade],
            )
            if info.reason:
                draw_text(layout, context, info.reason)


CLASSES = (
    MAQUETTE_UL_cameras,
    MAQUETTE_PT_cameras,
    MAQUETTE_PT_poses,
    MAQUETTE_PT_orient,
    MAQUETTE_PT_sequence,
    MAQUETTE_PT_align,
)
