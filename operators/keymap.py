# SPDX-License-Identifier: GPL-3.0-or-later
"""Our one shortcut, Ctrl Alt M: Image to Mesh, in 3D viewports and Image Editors. Preferences > Keymap changes it."""

from __future__ import annotations

from typing import Any

import bpy

PLACES = (("3D View", "VIEW_3D"), ("Image", "IMAGE_EDITOR"))
"""Names of Blender's keymaps and their editors."""

_items: list[tuple[Any, Any]] = []


def register() -> None:
    """Into the keymap of add-ons; there is none where Blender has no windows."""
    configuration = bpy.context.window_manager.keyconfigs.addon
    if configuration is None:
        return
    for name, space in PLACES:
        keymap = configuration.keymaps.new(name=name, space_type=space)  # type: ignore[arg-type]
        item = keymap.keymap_items.new("maquette.image_to_mesh", "M", "PRESS", ctrl=True, alt=True)
        _items.append((keymap, item))


def unregister() -> None:
    """The reverse."""
    for keymap, item in reversed(_items):
        keymap.keymap_items.remove(item)
    _items.clear()
