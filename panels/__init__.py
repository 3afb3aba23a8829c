# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawing only: panels of the sidebar tab Maquette, entries in menus, the drop of files."""

from __future__ import annotations

from types import ModuleType


def _modules() -> list[ModuleType]:
    """In the order of the sidebar."""
    from . import cameras, drop, engine, heads, images, models, progress, result

    return [images, progress, cameras, result, heads, engine, models, drop]


def register() -> None:
    """Panels, then menus."""
    import bpy

    from . import menus, thumbnails

    thumbnails.register()
    for module in _modules():
        for kind in module.CLASSES:
            bpy.utils.register_class(kind)
    menus.register()


def unregister() -> None:
    """The reverse."""
    import bpy

    from . import menus, thumbnails

    menus.unregister()
    for module in reversed(_modules()):
        for kind in reversed(module.CLASSES):
            bpy.utils.unregister_class(kind)
    thumbnails.unregister()
