# SPDX-License-Identifier: GPL-3.0-or-later
"""Maquette: images in; textured meshes, heads and matched cameras out, inside Blender.

The folder is a Blender extension (`bl_ext.<repository>.maquette`) and, outside Blender, the Python package `maquette`.
Importing it loads neither Blender nor torch; Blender calls `register` and `unregister`.
"""


def register() -> None:
    """Add operators, settings and panels to Blender, in this order: panels draw what operators define."""
    from . import operators, panels

    operators.register()
    try:
        panels.register()
    except Exception:
        operators.unregister()  # a half-registered extension cannot be switched off again
        raise


def unregister() -> None:
    """Take everything back out of Blender, in reverse order."""
    from . import operators, panels

    panels.unregister()
    operators.unregister()
