# SPDX-License-Identifier: GPL-3.0-or-later
"""The result that the active object belongs to: how well it matches its photos, what can be made of it, where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..operators.seen_overlay import has_seen
from ..operators.settings import camera_info, result_info, scene_state
from ..operators.versions import chosen_info, chosen_mesh
from ..operators.view_through_photo import result_root
from .cameras import GRADE_ICONS
from .sidebar import Sidebar
from .text import draw_text, duration, stored, words


class MAQUETTE_PT_result(Sidebar, bpy.types.Panel):
    """What was measured, and what is done next."""

    bl_label = "Result"
    bl_idname = "MAQUETTE_PT_result"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A result has to be chosen."""
        return result_root(context) is not None or chosen_mesh(context) is not None

    def draw(self, context: bpy.types.Context) -> None:
        """Numbers, buttons, warnings."""
        layout, mesh, info = self.layout, chosen_mesh(context), chosen_info(context)
        if info is None:
            return
        if mesh is not None:
            layout.label(text=mesh.name, icon="MESH_DATA", translate=False)
        column = layout.column(align=True)
        for label, text in _measures(stored(info.metrics)):
            draw_fact(column, label, text)
        if has_seen(mesh):
            layout.prop(scene_state(context.scene), "show_invented", icon="OVERLAY")
        column = layout.column(align=True)
        column.operator("maquette.re_extract", icon="FILE_REFRESH")
        column.operator("maquette.re_bake", icon="TEXTURE")
        row = column.row(align=True)
        row.operator("maquette.remesh", text="Decimate", icon="MOD_DECIM").method = "DECIMATE"
        row.operator("maquette.remesh", text="Quads", icon="MOD_REMESH").method = "QUADS"
        column.operator("maquette.regenerate", icon="LOOP_BACK")
        column = layout.column(align=True)
        row = column.row(align=True)
        row.operator("maquette.save_result", icon="FILE_TICK")
        row.operator("maquette.import_result", icon="IMPORT")
        column.operator("maquette.mark_as_asset", icon="ASSET_MANAGER")
        for text in info.warnings.splitlines():
            draw_text(layout, context, text, icon="ERROR")
        for photo, reason in stored(info.failed).items():
            draw_text(layout, context, f"{photo}: {reason}", icon="CANCEL")


class MAQUETTE_PT_compare(Sidebar, bpy.types.Panel):
    """Two versions."""

    bl_label = "Compare"
    bl_idname = "MAQUETTE_PT_compare"
    bl_parent_id = "MAQUETTE_PT_result"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """With which, then how."""
        layout, state = self.layout, scene_state(context.scene)
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(state, "compare_with")
        row = layout.row(align=True)
        row.operator("maquette.compare", text="Toggle", icon="ARROW_LEFTRIGHT").mode = "TOGGLE"
        row.operator("maquette.compare", text="Side by Side", icon="SPLIT_HORIZONTAL").mode = "SIDE"
        other = state.compare_with
        if other is not None and chosen_info(context) is not None:
            here, there = (
                dict(_measures(stored(i.metrics))) for i in (chosen_info(context), result_info(other))
            )
            column = layout.column(align=True)
            for label in here:
                split = column.split(factor=0.44)
                split.label(text=label)
                row = split.row()
                row.label(text=here[label], translate=False)
                row.label(text=there.get(label, "-"), translate=False)


class MAQUETTE_PT_mesh_report(Sidebar, bpy.types.Panel):
    """What the mesh is made of."""

    bl_label = "Mesh"
    bl_idname = "MAQUETTE_PT_mesh_report"
    bl_parent_id = "MAQUETTE_PT_result"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A mesh has to be chosen."""
        return chosen_mesh(context) is not None

    def draw(self, context: bpy.types.Context) -> None:
        """Counts at once; what takes a look at every edge, when it was taken of this state of the mesh."""
        layout, mesh = self.layout, chosen_mesh(context)
        report = stored(result_info(mesh).report)
        column = layout.column(align=True)
        draw_fact(column, "Faces", f"{len(mesh.data.polygons):,}")
        draw_fact(column, "Vertices", f"{len(mesh.data.vertices):,}")
        same = (len(mesh.data.polygons), len(mesh.data.vertices)) == (
            report.get("faces"),
            report.get("vertices"),
        )
        if same:
            draw_fact(column, "Parts", f"{report['parts']:,}")
            draw_fact(column, "Holes", f"{report['holes']:,}")
            draw_fact(column, "Watertight", "Yes" if report["watertight"] else "No")
        layout.operator("maquette.check_mesh", icon="VIEWZOOM", text="Check Again" if same else "Check Mesh")


class MAQUETTE_UL_camera_errors(bpy.types.UIList):
    """The cameras of a result with what was measured of each."""

    def draw_item(
        self, context: Any, layout: Any, data: Any, item: Any, icon: Any, active_data: Any, active_property: Any,
        index: Any = 0, flt_flag: Any = 0,
    ) -> None:  # fmt: skip
        """Photo, then the three measures in columns."""
        info = camera_info(item)
        split = layout.split(factor=0.34)
        split.label(text=Path(info.photo).stem, icon=GRADE_ICONS[info.grade], translate=False)
        row = split.row()
        for value, form in (
            (info.silhouette_iou, "{:.3f}"),
            (info.photo_psnr, "{:.1f}"),
            (info.reprojection_px, "{:.2f}"),
        ):
            row.label(text=form.format(value) if value >= 0 else "-", translate=False)

    def filter_items(self, context: Any, data: Any, property: Any) -> Any:  # noqa: A002 - Blender's name
        """(flags, order): cameras with a photo, in the order of their names."""
        objects = getattr(data, property)
        shown = [o.type == "CAMERA" and bool(camera_info(o).photo) for o in objects]
        flags = [self.bitflag_filter_item if keep else 0 for keep in shown]
        return flags, bpy.types.UI_UL_list.sort_items_by_name(objects, "name")


class MAQUETTE_PT_camera_errors(Sidebar, bpy.types.Panel):
    """How far each camera is off."""

    bl_label = "Per Camera"
    bl_idname = "MAQUETTE_PT_camera_errors"
    bl_parent_id = "MAQUETTE_PT_result"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """The collection of a result has to be there."""
        root = result_root(context)
        return root is not None and bool(root.users_collection)

    def draw(self, context: bpy.types.Context) -> None:
        """Overlap of outlines, likeness of colours in dB, distance of matched points; the list below Cameras looks through them."""
        layout, collection = self.layout, result_root(context).users_collection[0]
        split = layout.split(factor=0.34)
        split.label(text="Photo")
        row = split.row()
        for text in ("Overlap", "dB", "Pixels"):
            row.label(text=text)
        layout.template_list(
            "MAQUETTE_UL_camera_errors",
            "",
            collection,
            "objects",
            scene_state(context.scene),
            "active_camera",
        )


class MAQUETTE_PT_origin(Sidebar, bpy.types.Panel):
    """Where it came from."""

    bl_label = "Origin"
    bl_parent_id = "MAQUETTE_PT_result"
    bl_idname = "MAQUETTE_PT_origin"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Facts to copy, then how long it took."""
        layout, info = self.layout, chosen_info(context)
        if info is None:
            return
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        column.enabled = False
        for name in ("method", "model", "licence", "seed", "device"):
            if getattr(info, name):
                column.prop(info, name)
        layout.prop(info, "folder")
        timings = stored(info.timings)
        if timings:
            column = layout.column(align=True)
            draw_fact(column, "Time", duration(sum(timings.values())))
            for stage, seconds in timings.items():
                draw_fact(column, f"    {words(stage.capitalize())}", duration(seconds))


def draw_fact(column: bpy.types.UILayout, label: str, text: str) -> None:
    """A line of two columns."""
    split = column.split(factor=0.5)
    split.label(text=label)
    split.label(text=text, translate=False)


def _measures(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and value of what was measured."""
    rows = []
    if metrics.get("silhouette_iou") is not None:
        rows.append(("Silhouette Match", f"{metrics['silhouette_iou']:.3f} IoU"))
    if metrics.get("photo_psnr") is not None:
        rows.append(("Photo Match", f"{metrics['photo_psnr']:.1f} dB"))
    if metrics.get("seen") is not None:
        rows.append(("Seen in Photos", f"{100 * metrics['seen']:.0f} %"))
    if metrics.get("registered") is not None:
        rows.append(("Cameras Found", str(metrics["registered"])))
    return rows


CLASSES = (
    MAQUETTE_PT_result,
    MAQUETTE_PT_mesh_report,
    MAQUETTE_PT_compare,
    MAQUETTE_UL_camera_errors,
    MAQUETTE_PT_camera_errors,
    MAQUETTE_PT_origin,
)
