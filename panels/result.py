# SPDX-License-Identifier: GPL-3.0-or-later
"""The result that the active object belongs to: how well it matches its photos, and where it came from."""

from __future__ import annotations

from typing import Any

import bpy

from ..operators.settings import result_info
from ..operators.view_through_photo import result_root
from .images import Sidebar
from .text import draw_text, duration, stored


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


CLASSES = (MAQUETTE_PT_result, MAQUETTE_PT_origin)
