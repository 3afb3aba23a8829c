# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a mesh no photo shows, laid over it in the viewport; mesh and materials are not touched."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from .settings import scene_state
from .versions import is_version

INVENTED = (1.0, 0.35, 0.0, 0.75)
"""Where nothing was seen; less seen is more covered."""
NEARER = 0.999
"""The layer is drawn so much nearer to the eye than the mesh, which hides it from rounding; our choice."""


@dataclass
class _Layer:
    """What is drawn over one mesh, and of which state of it."""

    batch: Any
    state: tuple[int, int]


_layers: dict[int, _Layer] = {}
"""`session_uid` of a mesh -> its layer."""
_handle: Any = None


def has_seen(mesh: Any) -> bool:
    """Whether a mesh object says what was seen."""
    return is_version(mesh) and "seen" in mesh.data.attributes


def layer_of(data: Any) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """(vertices (V, 3), their RGBA (V, 4), triangles (F, 3)) of the layer over a mesh with the attribute `seen`."""
    data.calc_loop_triangles()
    count, faces = len(data.vertices), len(data.loop_triangles)
    points, seen = np.empty(3 * count, np.float32), np.empty(count, np.float32)
    corners = np.empty(3 * faces, np.int32)
    data.vertices.foreach_get("co", points)
    data.attributes["seen"].data.foreach_get("value", seen)
    data.loop_triangles.foreach_get("vertices", corners)
    colours = np.tile(np.array(INVENTED, np.float32), (count, 1))
    colours[:, 3] *= 1.0 - np.clip(seen, 0.0, 1.0)
    return points.reshape(-1, 3), colours, corners.reshape(-1, 3)


def _draw() -> None:
    context: Any = bpy.context
    if not scene_state(context.scene).show_invented or not context.space_data.overlay.show_overlays:
        return
    gpu: Any = importlib.import_module("gpu")  # only in a window; its stubs lack what it returns

    shader = gpu.shader.from_builtin("SMOOTH_COLOR")
    gpu.state.depth_test_set("LESS_EQUAL")
    gpu.state.blend_set("ALPHA")
    try:
        for item in context.visible_objects:
            if has_seen(item) and item.mode == "OBJECT":
                _draw_one(item, context.region_data, shader)
    finally:
        gpu.state.depth_test_set("NONE")
        gpu.state.blend_set("NONE")


def _draw_one(item: Any, view: Any, shader: Any) -> None:
    gpu: Any = importlib.import_module("gpu")
    from gpu_extras.batch import batch_for_shader
    from mathutils import Matrix

    data = item.data
    state = len(data.vertices), len(data.polygons)
    layer = _layers.get(data.session_uid)
    if layer is None or layer.state != state:
        points, colours, corners = layer_of(data)
        batch = batch_for_shader(shader, "TRIS", {"pos": points, "color": colours}, indices=corners)
        layer = _layers[data.session_uid] = _Layer(batch, state)
    with gpu.matrix.push_pop():
        if view.is_perspective:
            nearer = Matrix.Scale(NEARER, 4)  # towards the eye, which is the origin here: same pixels
        else:
            nearer = Matrix.Translation((0.0, 0.0, (1.0 - NEARER) * view.view_distance))
        gpu.matrix.load_matrix(nearer @ view.view_matrix @ item.matrix_world)
        shader.bind()
        layer.batch.draw(shader)


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _on_change(scene: Any, graph: Any) -> None:
    """An edited mesh gets a new layer when it is drawn next."""
    if _layers:
        for update in graph.updates:
            if (
                update.is_updated_geometry
                and isinstance(update.id, bpy.types.Object)
                and update.id.data is not None
            ):
                _layers.pop(update.id.data.original.session_uid, None)


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _on_load(*_: object) -> None:
    _layers.clear()


def register() -> None:
    """The handler draws nothing until the switch is on."""
    global _handle
    bpy.app.handlers.depsgraph_update_post.append(_on_change)
    bpy.app.handlers.load_post.append(_on_load)
    if not bpy.app.background:
        _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")


def unregister() -> None:
    """The reverse."""
    global _handle
    if _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
        _handle = None
    bpy.app.handlers.load_post.remove(_on_load)
    bpy.app.handlers.depsgraph_update_post.remove(_on_change)
    _layers.clear()
