# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads: generate, from a photo, blend; what stands before and after a blend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..operators.head_options import head_folder, head_options, is_head
from ..operators.orbit_head import shown_side
from ..operators.settings import result_info
from .sidebar import Sidebar
from .text import draw_text, stored, words
from .thumbnails import icon_of

LARGE = 6.0
"""Size of a preview in rows of the panel."""


class MAQUETTE_PT_heads(Sidebar, bpy.types.Panel):
    """What kind of head; the parts are below."""

    bl_label = "Heads"
    bl_idname = "MAQUETTE_PT_heads"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """The generator, and the portrait's button."""
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(head_options(context.scene), "model")
        layout.operator("maquette.head_from_photo", icon="USER")


class MAQUETTE_PT_generate_head(Sidebar, bpy.types.Panel):
    """Seed, gallery, mix."""

    bl_label = "Generate"
    bl_parent_id = "MAQUETTE_PT_heads"

    def draw(self, context: bpy.types.Context) -> None:
        """Button first, as the work goes."""
        layout, options = self.layout, head_options(context.scene)
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(options, "seed")
        layout.prop(options, "truncation")
        column = layout.column()
        side = shown_side(options)
        if side is not None and side.image is not None:
            column.template_icon(side.image.preview_ensure().icon_id, scale=LARGE)
        column.prop(options, "yaw")
        row = column.row(align=True)
        row.prop(options, "elevation")
        row.operator("maquette.orbit_head", text="", icon="ORIENTATION_GIMBAL")
        layout.operator("maquette.generate_head", icon="MESH_DATA")
        row = layout.row(align=True)
        row.prop(options, "count")
        row.operator("maquette.head_gallery", text="", icon="IMGDISPLAY")
        for index, item in enumerate(options.gallery):
            box = layout.box()
            if item.image is not None:
                box.template_icon(item.image.preview_ensure().icon_id, scale=LARGE)
            line = box.row()
            line.label(text=words("Seed {seed}").format(seed=item.seed), translate=False)
            line.operator("maquette.use_head", icon="MESH_DATA").index = index
        if len(options.gallery):
            layout.operator("maquette.clear_gallery", icon="TRASH")
        column = layout.column()
        column.prop(options, "mix_with")
        column.prop(options, "share")
        column.operator("maquette.mix_heads", icon="ARROW_LEFTRIGHT")


class MAQUETTE_PT_blend_heads(Sidebar, bpy.types.Panel):
    """Original, reference, region, weights."""

    bl_label = "Blend"
    bl_parent_id = "MAQUETTE_PT_heads"

    def draw(self, context: bpy.types.Context) -> None:
        """Top to bottom as the work goes."""
        layout, options = self.layout, head_options(context.scene)
        layout.use_property_split = True
        layout.use_property_decorate = False
        for name in ("original", "reference"):
            layout.prop(options, name)
            if getattr(options, name) is None:
                layout.prop(options, f"{name}_photo")
        layout.prop(options, "region")
        if options.region == "MASK":
            layout.prop(options, "mask")
        layout.operator("maquette.paint_region", icon="BRUSH_DATA")
        layout.prop(options, "take")
        layout.prop(options, "align")
        layout.prop(options, "density")
        column = layout.column()
        column.active = options.take != "SHAPE"
        column.prop(options, "colour")
        layout.prop(options, "use_poisson")
        layout.operator("maquette.blend_heads", icon="MOD_BOOLEAN")
        active = context.active_object
        if active is not None and is_head(active) and result_info(active).method == "head_blend":
            _draw_pictures(layout, head_folder(active))


class MAQUETTE_PT_head_facts(Sidebar, bpy.types.Panel):
    """How well a head from a photo looks like it, and by what it was judged."""

    bl_label = "Likeness"
    bl_parent_id = "MAQUETTE_PT_heads"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Of a head from a photo or a blend."""
        active = context.active_object
        return active is not None and is_head(active) and "compared_by" in stored(result_info(active).metrics)

    def draw(self, context: bpy.types.Context) -> None:
        """Numbers in words."""
        metrics = stored(result_info(context.active_object).metrics)
        layout = self.layout
        if "head_psnr" in metrics:
            text = words("Likeness {decibels} dB").format(decibels=f"{metrics['head_psnr']:.1f}")
            layout.label(text=text, translate=False)
        if "outside_psnr" in metrics:
            text = words("Outside the region {decibels} dB").format(decibels=f"{metrics['outside_psnr']:.1f}")
            layout.label(text=text, translate=False)
        draw_text(layout, context, f"Pictures were compared by {metrics['compared_by']}.", icon="INFO")


def _draw_pictures(layout: Any, folder: Path) -> None:
    """Before and after, where the result is still there."""
    row = layout.row()
    for name in ("before", "after"):
        path = folder / f"{name}.png"
        if path.is_file():
            column = row.column()
            column.template_icon(icon_value=icon_of(str(path)), scale=LARGE)
            column.label(text=name.capitalize())


CLASSES = (
    MAQUETTE_PT_heads,
    MAQUETTE_PT_generate_head,
    MAQUETTE_PT_blend_heads,
    MAQUETTE_PT_head_facts,
)
