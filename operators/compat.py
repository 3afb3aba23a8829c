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


def curves_of(animated: Any) -> list[Any]:
    """The F-curves of an object or datablock. From 4.4 on they lie in layers of slots; from 5.0 on nowhere else."""
    data = animated.animation_data
    if data is None or data.action is None:
        return []
    if bpy.app.version < (4, 4, 0):
        return list(data.action.fcurves)
    bags = [strip.channelbag(data.action_slot) for layer in data.action.layers for strip in layer.strips]
    return [curve for bag in bags if bag is not None for curve in bag.fcurves]


def as_point_cloud(cloud: Any) -> bool:
    """Turn an object of loose vertices, linked to the scene, into a point cloud; before 4.5 it stays what it is."""
    if bpy.app.version < (4, 5, 0):
        return False
    chosen = {
        "object": cloud,
        "active_object": cloud,
        "selected_objects": [cloud],
        "selected_editable_objects": [cloud],
    }
    convert: Any = bpy.ops.object.convert
    with bpy.context.temp_override(**chosen):
        return "FINISHED" in convert(target="POINTCLOUD")
