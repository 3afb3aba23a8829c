# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos in, the button, and the settings that matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..operators import engine, inputs
from ..operators.settings import result_info, scene_state
from .engine import draw_set_up
from .sidebar import Sidebar
from .text import draw_text, words
from .thumbnails import icon_of

GRADES = {
    "good": ("CHECKMARK", "Camera found"),
    "doubtful": ("ERROR", "Camera doubtful"),
    "failed": ("CANCEL", "No camera"),
}
"""Grade -> (icon, words)."""
EMPTY = "Drop photos on the viewport, or press Image to Mesh to choose them."
"""Where the list is empty."""
MAKING = "The engine is being set up, which takes some minutes."
"""Above its bar."""
THUMBNAIL_SCALE = 5.0
"""Size of the chosen photo in rows of the panel."""


class MAQUETTE_UL_photos(bpy.types.UIList):
    """Photos with what the last result says of them."""

    def draw_item(
        self, context: Any, layout: Any, data: Any, item: Any, icon: Any, active_data: Any, active_property: Any,
        index: Any = 0, flt_flag: Any = 0,
    ) -> None:  # fmt: skip
        """Thumbnail, name without folder, mask, grade."""
        row = layout.row()
        row.label(text=file_name(item), icon_value=icon_of(bpy.path.abspath(item.path)), translate=False)
        right = row.row(align=True)
        right.alignment = "RIGHT"
        if item.has_mask:
            right.label(text="", icon="MOD_MASK")
        if item.grade in GRADES:
            right.label(text="", icon=GRADES[item.grade][0])


def file_name(item: Any) -> str:
    """Of a `PhotoItem`, without its folder; paths of other systems too."""
    return Path(item.path.replace("\\", "/")).name


class MAQUETTE_PT_images(Sidebar, bpy.types.Panel):
    """The list and the button."""

    bl_label = "Image to Mesh"
    bl_idname = "MAQUETTE_PT_images"

    def draw(self, context: bpy.types.Context) -> None:
        """Top to bottom as the work goes."""
        layout, state = self.layout, scene_state(context.scene)
        row = layout.row()
        row.template_list(
            "MAQUETTE_UL_photos", "", state, "photos", state, "active_photo", rows=4, sort_lock=True
        )
        column = row.column(align=True)
        column.operator("maquette.add_photos", text="", icon="ADD").source = "FILES"
        column.operator("maquette.remove_photo", text="", icon="REMOVE").use_all = False
        column.separator()
        picked = column.row(align=True)
        picked.enabled = bool(inputs.selected_images(context))  # its tooltip says why not
        picked.operator("maquette.add_photos", text="", icon="EYEDROPPER").source = "SELECTION"
        column.operator("maquette.remove_photo", text="", icon="TRASH").use_all = True
        count, problem = len(state.photos), engine.engine_status().problem
        counted = words("{count} photos").format(count=count) if count != 1 else words("1 photo")
        if 0 <= state.active_photo < count:
            _draw_photo(layout, context, state.photos[state.active_photo], counted)
        elif problem is None:
            draw_text(layout, context, EMPTY, icon="INFO")
        if problem is not None:
            setup = engine.engine_setup()
            making = setup is not None and setup.running
            draw_text(layout, context, MAKING if making else problem.message, icon="INFO")
            draw_set_up(layout, context)
        row = layout.column()
        row.use_property_split = True
        row.use_property_decorate = False
        row.prop(state.mesh, "quality")
        column = layout.column()
        column.scale_y = 1.4
        column.operator("maquette.image_to_mesh", icon="MESH_DATA")
        if count == 1:
            layout.operator("maquette.candidates", icon="IMGDISPLAY")


def _draw_photo(layout: Any, context: bpy.types.Context, item: Any, counted: str) -> None:
    """The chosen photo larger, how many there are, and in words what is known of this one."""
    split = layout.split(factor=0.4)
    split.template_icon(icon_value=icon_of(bpy.path.abspath(item.path)), scale=THUMBNAIL_SCALE)
    column = split.column(align=True)
    column.label(text=counted, translate=False)
    if item.grade in GRADES:
        icon, words = GRADES[item.grade]
        column.label(text=words, icon=icon)
    else:
        column.label(text="Not used yet")
    if item.has_mask:
        column.label(text="Masked", icon="MOD_MASK")
    if item.grade in ("good", "doubtful"):  # the others have no camera to look at a mask with
        column.operator("maquette.edit_mask", icon="BRUSH_DATA").photo = file_name(item)
    if item.reason:
        draw_text(layout, context, item.reason)


class MAQUETTE_PT_candidates(Sidebar, bpy.types.Panel):
    """What models would make of the picture."""

    bl_label = "Candidates"
    bl_parent_id = "MAQUETTE_PT_images"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only while there are some."""
        return len(scene_state(context.scene).candidates) > 0

    def draw(self, context: bpy.types.Context) -> None:
        """Preview, name, button."""
        layout, state = self.layout, scene_state(context.scene)
        for index, item in enumerate(state.candidates):
            box = layout.box()
            if item.image is not None:
                box.template_icon(item.image.preview_ensure().icon_id, scale=6.0)
            text = f"{Path(item.model).stem}, seed {item.seed}"
            box.label(text=f"{text} ({item.licence})" if item.licence else text, translate=False)
            box.operator("maquette.use_candidate", icon="MESH_DATA").index = index
        layout.operator("maquette.clear_candidates", icon="TRASH")


class MAQUETTE_PT_settings(Sidebar, bpy.types.Panel):
    """Size and detail; quality, which is changed most, stands above the button."""

    bl_label = "Settings"
    bl_parent_id = "MAQUETTE_PT_images"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """What is seen first, first."""
        layout, options = self.layout, scene_state(context.scene).mesh
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(options, "texture_size")
        layout.prop(options, "face_budget")
        layout.prop(options, "height")


class MAQUETTE_PT_background(Sidebar, bpy.types.Panel):
    """What belongs to the object."""

    bl_label = "Background"
    bl_parent_id = "MAQUETTE_PT_images"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Masks and region."""
        layout, options = self.layout, scene_state(context.scene).mesh
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        column.active = not options.masks
        column.prop(options, "mask_mode")
        layout.prop(options, "masks")
        if len(scene_state(context.scene).photos) <= 1:
            layout.prop(options, "matting")
        layout.prop(options, "use_region")
        column = layout.column()
        column.active = options.use_region
        column.prop(options, "region_box")
        root = options.region_box.parent if options.region_box is not None else None
        if root is not None and result_info(root).schema and not options.cameras:
            taken = words("The next mesh takes the cameras of {name}.").format(name=root.name)
            draw_text(column, context, taken, icon="INFO")
        layout.operator("maquette.add_region_box", icon="CUBE")


class MAQUETTE_PT_advanced(Sidebar, bpy.types.Panel):
    """The rest."""

    bl_label = "Advanced"
    bl_parent_id = "MAQUETTE_PT_images"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Seldom touched."""
        layout, options = self.layout, scene_state(context.scene).mesh
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(options, "method")
        layout.prop(options, "model")
        layout.prop(options, "cameras")
        layout.prop(options, "resolution")
        layout.prop(options, "device")
        layout.prop(options, "seed")


CLASSES = (
    MAQUETTE_UL_photos,
    MAQUETTE_PT_images,
    MAQUETTE_PT_candidates,
    MAQUETTE_PT_settings,
    MAQUETTE_PT_background,
    MAQUETTE_PT_advanced,
)
