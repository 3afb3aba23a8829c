# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries in Blender's own menus."""

from __future__ import annotations

from typing import Any

import bpy


def _draw_import(self: Any, context: bpy.types.Context) -> None:
    self.layout.operator("maquette.image_to_mesh", text="Photos to Mesh (Maquette)").use_browser = True
    self.layout.operator("maquette.import_result", text="Maquette Result")


def _draw_image(self: Any, context: bpy.types.Context) -> None:
    self.layout.separator()
    self.layout.operator("maquette.add_photos", text="Add to Maquette Photos").source = "EDITOR"
    self.layout.operator("maquette.image_to_mesh")


def register() -> None:
    """File > Import, and the Image Editor's Image menu."""
    bpy.types.TOPBAR_MT_file_import.append(_draw_import)
    bpy.types.IMAGE_MT_image.append(_draw_image)


def unregister() -> None:
    """The reverse."""
    bpy.types.IMAGE_MT_image.remove(_draw_image)
    bpy.types.TOPBAR_MT_file_import.remove(_draw_import)
