# SPDX-License-Identifier: GPL-3.0-or-later
"""The meshes that came out of results: the one an action means, the others it can be compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy

from .settings import result_info
from .view_through_photo import result_root


def chosen_mesh(context: bpy.types.Context) -> Any:
    """The active mesh where it belongs to a result, else the first mesh that the chosen result shows; None without one."""
    active, root = context.active_object, result_root(context)
    if active is not None and active.type == "MESH" and root_of(active, context) is not None:
        return None if _is_cloud(active) else active
    if root is None:
        return None
    meshes = [child for child in root.children if child.type == "MESH" and not _is_cloud(child)]
    return next((mesh for mesh in meshes if not mesh.hide_viewport), meshes[0] if meshes else None)


def _is_cloud(item: Any) -> bool:
    """The sparse points of a result without a surface: nothing can be baked on them or made of them."""
    root = item.parent
    return bool(
        root is not None
        and result_info(root).schema
        and not result_info(item).schema
        and not len(item.data.polygons)
    )


def root_of(mesh: bpy.types.Object, context: bpy.types.Context) -> Any:
    """The root of the result that a mesh hangs on; of a mesh that hangs elsewhere, that of what is selected with it."""
    for item in (mesh, *context.selected_objects):
        for root in (item, item.parent):
            if root is not None and root.type == "EMPTY" and result_info(root).schema:
                return root
    return None


def chosen_info(context: bpy.types.Context) -> Any:
    """`ResultInfo` of the chosen mesh where it has its own, else of its root; None where nothing is chosen."""
    mesh = chosen_mesh(context)
    if mesh is not None and result_info(mesh).schema:
        return result_info(mesh)
    root = result_root(context)
    return result_info(root) if root is not None else None


def is_version(item: Any) -> bool:
    """Whether an object is a mesh of a result: what can be compared."""
    return item is not None and item.type == "MESH" and bool(result_info(item).schema)


def set_shown(mesh: bpy.types.Object, shown: bool) -> None:
    """In viewports and renders alike."""
    mesh.hide_viewport = mesh.hide_render = not shown


def choose(context: bpy.types.Context, mesh: bpy.types.Object) -> None:
    """Select it alone and make it active."""
    for item in context.selected_objects:
        item.select_set(False)
    if mesh.name in context.view_layer.objects:
        mesh.select_set(True)
        context.view_layer.objects.active = mesh


@contextmanager
def in_object_mode(mesh: bpy.types.Object) -> Iterator[None]:
    """While a mesh is read: in Edit mode Blender holds its corners back. The mode is as it was afterwards."""
    mode = mesh.mode
    if mode == "OBJECT":
        yield
        return
    bpy.ops.object.mode_set(mode="OBJECT")
    try:
        yield
    finally:
        bpy.ops.object.mode_set(mode=mode)
