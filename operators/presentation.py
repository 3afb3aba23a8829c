# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artist sees right after an import: the new mesh chosen, and viewports that show its texture."""

from __future__ import annotations

from typing import Any

import bpy


def present(scene: bpy.types.Scene, chosen: list[bpy.types.Object]) -> None:
    """Select the new meshes alone, make the first active, and let solid viewports colour by texture."""
    layer = scene.view_layers[0] if bpy.context.scene != scene else bpy.context.view_layer
    for item in layer.objects:
        item.select_set(item in chosen, view_layer=layer)
    if chosen:
        layer.objects.active = chosen[0]
    for screen in bpy.data.screens:
        for area in screen.areas:
            space: Any
            for space in area.spaces:
                if space.type == "VIEW_3D" and space.shading.color_type == "MATERIAL":
                    space.shading.color_type = "TEXTURE"


def hide_meshes(root: bpy.types.Object) -> None:
    """The meshes of a result that another one replaces; they stay in the file."""
    for item in root.children:
        if item.type == "MESH":
            item.hide_viewport = item.hide_render = True
