# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain meshes -> bpy meshes with their material, in bulk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..core.types import Mesh
from .compat import node_tree_of


def check_mesh(mesh: Mesh, source: Path) -> None:
    """What would crash Blender rather than look wrong; everything else was validated in the engine.

    Raises:
        InputError: MESH_BROKEN.
    """
    faces, vertices = mesh.faces, mesh.vertices
    sound = (
        vertices.ndim == 2
        and vertices.shape[1] == 3
        and faces.ndim == 2
        and faces.shape[1] == 3
        and (len(faces) == 0 or (faces.min() >= 0 and faces.max() < len(vertices)))
        and bool(np.isfinite(vertices).all())
        and (mesh.uvs is None or mesh.uvs.shape == (len(faces), 3, 2))
        and all(len(values) == len(vertices) for values in mesh.attributes.values())
    )
    if not sound:
        raise InputError("MESH_BROKEN", f"The mesh in {source} is damaged.", "Make the result again.")


def fill_mesh(data: bpy.types.Mesh, mesh: Mesh) -> None:
    """Vertices, triangles, UVs and vertex attributes into an empty bpy mesh.

    Args:
        data: a new mesh.
        mesh: checked by `check_mesh`; `color` (V, 3) sRGB becomes a colour attribute, other attributes floats.
    """
    count, faces = len(mesh.vertices), len(mesh.faces)
    data.vertices.add(count)
    data.vertices.foreach_set("co", _flat(mesh.vertices, np.float32))
    if faces:
        data.loops.add(3 * faces)
        data.loops.foreach_set("vertex_index", _flat(mesh.faces, np.int32))
        data.polygons.add(faces)
        data.polygons.foreach_set("loop_start", np.arange(0, 3 * faces, 3, dtype=np.int32))
    data.update(calc_edges=True)
    if mesh.uvs is not None and faces:
        data.uv_layers.new(name="UVMap").uv.foreach_set("vector", _flat(mesh.uvs, np.float32))
    layer: Any
    for name, values in mesh.attributes.items():
        if name == "color":
            rgba = np.concatenate([values, np.ones((count, 1))], axis=1)
            layer = data.color_attributes.new(name=name, type="FLOAT_COLOR", domain="POINT")
            layer.data.foreach_set("color_srgb", _flat(rgba, np.float32))
            data.color_attributes.active_color = layer
        elif values.ndim == 1:
            layer = data.attributes.new(name=name, type="FLOAT", domain="POINT")
            layer.data.foreach_set("value", _flat(values, np.float32))


def pack_image(image: bpy.types.Image, path: Path) -> None:
    """Give a new image the bytes of a PNG or JPEG file as they are; decoding waits until someone looks.

    Raises:
        InputError: RESULT_UNREADABLE when the file is missing or no picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("RESULT_UNREADABLE", f"{path} cannot be read.", "Make the result again.") from error
    if not data.startswith((b"\x89PNG\r\n", b"\xff\xd8\xff")):
        raise InputError("RESULT_UNREADABLE", f"{path} is no PNG or JPEG picture.", "Make the result again.")
    image.filepath_raw = f"//{path.name}"  # where Blender's own Unpack would put it
    image.pack(data=data, data_len=len(data))  # type: ignore[arg-type]
    image.source = "FILE"


def fill_material(
    material: bpy.types.Material, image: bpy.types.Image | None, color_attribute: str | None
) -> None:
    """A Principled surface coloured by the image, else by the colour attribute, else grey."""
    tree = node_tree_of(material)
    node: Any
    principled: Any = next(node for node in tree.nodes if node.bl_idname == "ShaderNodeBsdfPrincipled")
    principled.inputs["Roughness"].default_value = 0.9  # photos hold their highlights already
    if image is not None:
        node = tree.nodes.new("ShaderNodeTexImage")
        node.image = image
    elif color_attribute is not None:
        node = tree.nodes.new("ShaderNodeVertexColor")
        node.layer_name = color_attribute
    else:
        return
    node.location = (principled.location.x - 320, principled.location.y)
    tree.links.new(node.outputs["Color"], principled.inputs["Base Color"])
    tree.nodes.active = node  # what solid shading with textures shows, and what baking writes to


def give_texture(item: Any, image: bpy.types.Image) -> None:
    """Another base colour texture for an object's first material; a material that others use is copied for it first."""
    old = item.material_slots[0].material if item.material_slots else None
    shader = _principled(old) if old is not None else None
    if old is None or shader is None:
        material = bpy.data.materials.new(item.name)
        fill_material(material, image, None)
    else:
        material = old if old.users == 1 and old.library is None else old.copy()
        shader = _principled(material)
        socket = shader.inputs["Base Color"]
        node: Any = socket.links[0].from_node if socket.is_linked else None
        tree: Any = material.node_tree
        if node is None or node.bl_idname != "ShaderNodeTexImage":
            node = tree.nodes.new("ShaderNodeTexImage")
            node.location = (shader.location.x - 320, shader.location.y)
            tree.links.new(node.outputs["Color"], socket)
        node.image = image
        tree.nodes.active = node
    if item.material_slots:
        item.material_slots[0].material = material
    else:
        item.data.materials.append(material)


def _principled(material: bpy.types.Material) -> Any:
    """The Principled shader of a material; None where it has none."""
    tree = material.node_tree
    nodes: Any = tree.nodes if tree is not None else ()
    return next((node for node in nodes if node.bl_idname == "ShaderNodeBsdfPrincipled"), None)


def _flat(values: NDArray[Any], dtype: type) -> NDArray[Any]:
    return np.ascontiguousarray(values, dtype).ravel()
