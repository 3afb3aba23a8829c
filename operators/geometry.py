# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scene shows as plain triangles with their base colours: evaluated, in the world, instances included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..core import scene_geometry
from ..core.errors import InputError
from ..core.scene_geometry import SceneGeometry
from .inputs import files_of_images

MOST_TRIANGLES = 2_000_000
"""More than that is a scan of a street, and takes gigabytes in the engine."""
GREY = 0.6
"""sRGB, where a material says nothing."""


@dataclass
class _Parts:
    """Arrays of every object, to be joined."""

    folder: Path
    vertices: list[NDArray[Any]] = field(default_factory=list)
    faces: list[NDArray[Any]] = field(default_factory=list)
    normals: list[NDArray[Any]] = field(default_factory=list)
    colors: list[NDArray[Any]] = field(default_factory=list)
    uvs: list[NDArray[Any]] = field(default_factory=list)
    owners: list[NDArray[Any]] = field(default_factory=list)
    textures: list[Path] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    """Image name -> number of its texture, -1 where it cannot be read."""
    triangles: int = 0
    points: int = 0


def write_geometry(context: bpy.types.Context, objects: Iterable[bpy.types.Object], folder: Path) -> Path:
    """Write the surfaces of visible objects as the engine reads them (`core.scene_geometry`).

    Args:
        context: its dependency graph is evaluated.
        objects: which count; empty: all that are visible.
        folder: existing; gets geometry.npz and textures that are not on disk.

    Raises:
        InputError: EMPTY_GEOMETRY, TOO_MANY_FACES.
    """
    wanted = set(objects)
    graph = context.evaluated_depsgraph_get()
    parts = _Parts(folder)
    instance: Any
    for instance in graph.object_instances:
        # An instance counts with what makes it: selecting a collection instance means its contents.
        owner = instance.parent if instance.is_instance else instance.object
        if wanted and (owner is None or owner.original not in wanted):
            continue
        if instance.object.type in ("MESH", "CURVE", "SURFACE", "FONT", "META"):
            _take(parts, instance.object, np.array(instance.matrix_world, np.float64))
    if not parts.triangles:
        raise InputError(
            "EMPTY_GEOMETRY", "No surface is visible that the photo could show.", "Show or select a mesh."
        )
    return scene_geometry.write(
        folder,
        SceneGeometry(
            np.concatenate(parts.vertices),
            np.concatenate(parts.faces),
            np.concatenate(parts.normals),
            np.concatenate(parts.colors),
            np.concatenate(parts.uvs),
            np.concatenate(parts.owners),
            parts.textures,
        ),
    )


def _take(parts: _Parts, item: Any, world: NDArray[np.float64]) -> None:
    """One object's surface."""
    mesh = item.to_mesh()
    if mesh is None:
        return
    try:
        mesh.calc_loop_triangles()
        count = len(mesh.loop_triangles)
        if not count:
            return
        parts.triangles += count
        if parts.triangles > MOST_TRIANGLES:
            raise InputError(
                "TOO_MANY_FACES",
                f"The scene shows more than {MOST_TRIANGLES:,} triangles.",
                "Select only the meshes that the photo shows.",
            )
        points = _get(mesh.vertices, "co", len(mesh.vertices) * 3, np.float32).reshape(-1, 3)
        corners = _get(mesh.loop_triangles, "vertices", 3 * count, np.int32).reshape(-1, 3)
        loops = _get(mesh.loop_triangles, "loops", 3 * count, np.int32).reshape(-1, 3)
        slots = _get(mesh.loop_triangles, "material_index", count, np.int32)
        normals = _get(mesh.corner_normals, "vector", 3 * len(mesh.loops), np.float32).reshape(-1, 3)[loops]
        linear = world[:3, :3]
        if np.linalg.det(linear) < 0:  # mirrored by its scale
            corners, loops, normals = corners[:, ::-1], loops[:, ::-1], normals[:, ::-1]
        turned = normals @ np.linalg.inv(linear + 1e-12 * np.eye(3))
        turned /= np.maximum(np.linalg.norm(turned, axis=2, keepdims=True), 1e-12)
        uv = mesh.uv_layers.active
        uvs = (
            _get(uv.uv, "vector", 2 * len(mesh.loops), np.float32).reshape(-1, 2)[loops]
            if uv is not None
            else np.zeros((count, 3, 2), np.float32)
        )
        colors, owners = _colours(parts, item, mesh, slots, corners, loops, uv is not None)
        parts.vertices.append((points @ linear.T + world[:3, 3]).astype(np.float32))
        parts.faces.append(np.ascontiguousarray(corners + parts.points, np.int32))
        parts.normals.append(turned.astype(np.float32))
        parts.colors.append(colors)
        parts.uvs.append(uvs)
        parts.owners.append(owners)
        parts.points += len(points)
    finally:
        item.to_mesh_clear()


def _colours(
    parts: _Parts,
    item: Any,
    mesh: Any,
    slots: NDArray[np.int32],
    corners: NDArray[np.int32],
    loops: NDArray[np.int32],
    has_uvs: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """(corner colours (F, 3, 3) uint8 sRGB, number of each face's texture (F,))."""
    count = len(slots)
    colors = np.full((count, 3, 3), GREY, np.float32)
    owners = np.full(count, -1, np.int16)
    materials = [slot.material for slot in item.material_slots]
    for index, material in enumerate(materials):
        chosen = np.flatnonzero(np.minimum(slots, len(materials) - 1) == index)
        if material is None or not len(chosen):
            continue
        kind, value = _base_colour(material)
        if kind == "texture" and has_uvs:
            owners[chosen] = _texture_number(parts, value)
        elif kind == "attribute":
            layer = mesh.color_attributes.get(value) or mesh.color_attributes.active_color
            if layer is not None:
                values = _get(layer.data, "color_srgb", 4 * len(layer.data), np.float32).reshape(-1, 4)[:, :3]
                colors[chosen] = values[(corners if layer.domain == "POINT" else loops)[chosen]]
        elif kind == "colour":
            colors[chosen] = np.clip(np.array(value[:3], np.float32), 0, 1) ** (1 / 2.2)
    return (np.clip(colors, 0, 1) * 255 + 0.5).astype(np.uint8), owners


def _base_colour(material: Any) -> tuple[str, Any]:
    """What colours a material: ("texture", image), ("attribute", name) or ("colour", linear RGBA)."""
    tree = material.node_tree
    shader = None
    if tree is not None:
        shaders = {n.bl_idname: n for n in tree.nodes}
        shader = (
            shaders.get("ShaderNodeBsdfPrincipled")
            or shaders.get("ShaderNodeBsdfDiffuse")
            or shaders.get("ShaderNodeEmission")
        )
    if shader is None:
        return "colour", tuple(material.diffuse_color)
    socket = shader.inputs.get("Base Color") or shader.inputs.get("Color")
    node = socket.links[0].from_node if socket.is_linked else None
    for _ in range(8):  # through mixes and corrections to what they are fed with
        if node is None:
            break
        if node.bl_idname == "ShaderNodeTexImage" and node.image is not None:
            return "texture", node.image
        if node.bl_idname in ("ShaderNodeVertexColor", "ShaderNodeAttribute"):
            return "attribute", getattr(node, "layer_name", "") or getattr(node, "attribute_name", "")
        node = next((s.links[0].from_node for s in node.inputs if s.is_linked and s.type == "RGBA"), None)
    return "colour", tuple(material.diffuse_color if socket.is_linked else socket.default_value)


def _texture_number(parts: _Parts, image: Any) -> int:
    """Of a picture file with what the image shows; -1 where it has no pixels: the surface then is grey."""
    if image.name not in parts.numbers:
        try:
            parts.textures += files_of_images([image], parts.folder)
            parts.numbers[image.name] = len(parts.textures) - 1
        except InputError:  # a movie, a tile set or a missing file
            parts.numbers[image.name] = -1
    return parts.numbers[image.name]


def _get(collection: Any, name: str, length: int, kind: Any) -> NDArray[Any]:
    values = np.empty(length, kind)
    collection.foreach_get(name, values)
    return values
