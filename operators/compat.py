# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches between versions of Blender, nothing else. Each names the version and has a test on every `bpy` wheel."""

from __future__ import annotations

from typing import Any

import bpy


def node_tree_of(owner: bpy.types.Material | bpy.types.World) -> Any:
    """The node tree of a new material or world.

    Before 5.0 it appears when `use_nodes` is set; from 5.0 it is always there and setting it is deprecated.
    """
    if bpy.app.version < (5, 0, 0):
        owner.use_nodes = True
    return owner.node_tree


def hide_uvs(space: Any) -> None:
    """Keep the active mesh's UVs out of an Image Editor. From 4.5 on a switch is there, as they are drawn while painting."""
    if bpy.app.version >= (4, 5, 0):
        space.uv_editor.show_uv = False
