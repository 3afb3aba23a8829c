# SPDX-License-Identifier: GPL-3.0-or-later
"""The result that the active object belongs to: how well it matches its photos, and its cameras."""

from __future__ import annotations

from typing import Any

import bpy

from ..operators.settings import camera_info, result_info, scene_state
from ..operators.view_through_photo import result_root
from .images import Sidebar
from .text import draw_text, duration, stored

GRADE_ICONS = {"good": "CHECKMARK", "doubtful": "ERROR", "failed": "CANCEL"}


class MAQUETTE_PT_result(Sidebar, bpy.types.Panel):
    """What was measured."""

    bl_label = "Result"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A result has to be chosen."""
        return result_root(context) is not None

    def draw(self, context: bpy.types.Context) -> None:
        """Numbers, then warnings."""
        layout, root = self.layout, result_root(context)
        info = result_info(root)
        metrics, failed = stored(info.metrics), stored(info.failed)
        column = layout.column(align=True)
        faces = sum(len(child.data.polygons) for child in root.children if child.type == "MESH")
        for label, text in [*_measures(metrics), ("Faces", f"{faces:,}")]:
            split = column.split(factor=0.55)
            split.label(text=label)
            split.label(text=text, translate=False)
        seconds = sum(stored(info.timings).values())
        if seconds:
            split = column.split(factor=0.55)
            split.label(text="Time")
            split.label(text=duration(seconds), translate=False)
        layout.operator("maquette.re_extract", icon="FILE_REFRESH")
        for text in info.warnings.splitlines():
            draw_text(layout, context, text, icon="ERROR")
        for photo, reason in failed.items():
            draw_text(layout, context, f"{photo}: {reason}", icon="CANCEL")


class MAQUETTE_PT_origin(Sidebar, bpy.types.Panel):
    """Where it came from."""

    bl_label = "Origin"
    bl_parent_id = "MAQUETTE_PT_result"
    bl_idname = "MAQUETTE_PT_origin"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Facts to copy."""
        layout, info = self.layout, result_info(result_root(context))
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        column.enabled = False
        for name in ("method", "model", "licence", "seed", "device"):
            if getattr(info, name):
                column.prop(info, name)
        layout.prop(info, "folder")


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
    """The solved cameras."""

    bl_label = "Cameras"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """As the result."""
        return result_root(context) is not None

    def draw(self, context: bpy.types.Context) -> None:
        """Step, list, and how the photo is shown."""
        layout, root, scene = self.layout, result_root(context), context.scene
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
        camera: Any = scene.camera
        if camera is None or camera.type != "CAMERA" or not camera_info(camera).photo:
            return
        info = camera_info(camera)
        if info.reason:
            draw_text(layout, context, f"{info.photo}: {info.reason}", icon=GRADE_ICONS[info.grade])
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.operator("maquette.edit_mask", icon="BRUSH_DATA")
        for background in camera.data.background_images[:1]:
            layout.prop(background, "alpha", text="Photo Opacity", slider=True)
            layout.prop(background, "display_depth", text="Photo Depth", expand=True)


def _measures(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and value of what was measured."""
    rows = []
    if metrics.get("silhouette_iou") is not None:
        rows.append(("Silhouette Match", f"{metrics['silhouette_iou']:.3f} IoU"))
    if metrics.get("photo_psnr") is not None:
        rows.append(("Photo Match", f"{metrics['photo_psnr']:.1f} dB"))
    if metrics.get("registered") is not None:
        rows.append(("Cameras Found", str(metrics["registered"])))
    return rows


CLASSES = (MAQUETTE_PT_result, MAQUETTE_PT_origin, MAQUETTE_UL_cameras, MAQUETTE_PT_cameras)
