# SPDX-License-Identifier: GPL-3.0-or-later
"""Re-Bake: the photos of a result once more onto its mesh, or onto what the artist has made of it; its geometry stays."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np
from bpy.props import IntProperty
from numpy.typing import NDArray

from ..core.errors import InputError, MaquetteError
from ..core.jobs.request import Request, new_job_folder
from ..core.results import Result, read_mesh, read_result, write_mesh
from ..core.types import Mesh
from . import engine, jobs
from .mesh_report import measure
from .meshes import check_mesh, give_texture, pack_image
from .reports import refuse
from .results import write_info
from .settings import result_info, scene_state
from .versions import chosen_mesh, in_object_mode, root_of

if TYPE_CHECKING:
    from .reports import Outcome

SMART_ANGLE = 1.15
"""Radians between faces of one island, Blender's own default for Smart UV Project (66 degrees)."""
ISLAND_MARGIN = 0.003
"""Share of the texture between islands: 6 texels of 2048; our choice."""


class MAQUETTE_OT_re_bake(bpy.types.Operator):
    """Make the texture of this mesh again from the photos of its result; its vertices and faces stay as they are"""

    bl_idname = "maquette.re_bake"
    bl_label = "Re-Bake"
    bl_options = {"REGISTER"}  # the import that follows is the undo step

    texture_size: IntProperty(
        name="Texture Size",
        description="Width and height of the texture; 0 takes that of the settings",
        min=0,
        max=8192,
        subtype="PIXEL",
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A mesh of a result, or one selected together with a result."""
        if chosen_mesh(context) is None:
            cls.poll_message_set("Select a mesh of a result, or any mesh and then an object of the result")
            return False
        return engine.is_ready(cls)

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Start the job; without a window also wait for it and take its texture."""
        try:
            mesh = chosen_mesh(context)
            size = self.texture_size or scene_state(context.scene).mesh.texture_size
            request = bake_request(context, mesh, max(size, 256))
        except MaquetteError as error:
            return refuse(self, error)
        return jobs.start(self, context.scene, request, mesh.name)


def bake_request(context: bpy.types.Context, mesh: bpy.types.Object, size: int) -> Request:
    """What the engine is asked for.

    Args:
        context: its selection tells the result of a mesh that hangs on none.
        mesh: its own shape counts, without modifiers.
        size: of the texture in pixels.

    Raises:
        InputError: MESH_LINKED, EMPTY_MESH, RESULT_UNREADABLE.
    """
    root = root_of(mesh, context)
    folder = Path(result_info(root).folder)
    read_result(folder)  # says at once where the result is gone
    if mesh.library is not None or mesh.data.library is not None:
        raise InputError(
            "MESH_LINKED",
            f"{mesh.name} belongs to another file.",
            "Make it local first, or bake in that file.",
        )
    with in_object_mode(mesh):
        surface, _ = _surface(mesh)
        shape = shape_of(mesh.data)
    if not len(surface.faces):
        raise InputError("EMPTY_MESH", f"{mesh.name} has no faces.", "Choose a mesh that has some.")
    surface.vertices = _in_result(surface.vertices, mesh, root)
    onto = new_job_folder() / "onto.npz"
    write_mesh(onto, surface)
    settings = {
        "onto": str(onto),
        "texture_size": size,
        "device": scene_state(context.scene).mesh.device,
        "quality": scene_state(context.scene).mesh.quality,
        "seed": 0,
        "object": mesh.name,
        "object_uid": mesh.session_uid,
        "shape": shape,
    }
    return Request("bake", (str(folder),), settings, out=str(jobs.new_result_folder(mesh.name)))


def take_in(scene: bpy.types.Scene, folder: Path, result: Result, settings: dict[str, Any]) -> Any:
    """Give the mesh that was asked for its texture; None, and nothing is changed, where it is gone or has been edited since.

    Raises:
        InputError: RESULT_UNREADABLE, MESH_BROKEN; nothing was changed then.
    """
    item = _target(scene, settings)
    if item is None or shape_of(item.data) != settings["shape"]:
        return None
    path = folder / result.objects[0].mesh
    baked = read_mesh(path)
    check_mesh(baked, path)
    surface, loops = _surface(item, with_uvs=False)
    if not np.array_equal(baked.faces, surface.faces):
        return None
    image = bpy.data.images.new(f"{item.name} Base Color", 1, 1)
    try:
        pack_image(image, folder / result.objects[0].textures["base_color"])
    except InputError:
        bpy.data.images.remove(image)
        raise
    if not item.data.uv_layers and baked.uvs is not None:
        corners = np.zeros((len(item.data.loops), 2), np.float32)
        corners[loops.ravel()] = baked.uvs.reshape(-1, 2)
        item.data.uv_layers.new(name="UVMap").uv.foreach_set("vector", corners.ravel())
    if "seen" in baked.attributes:
        _write_seen(item.data, baked.attributes["seen"])
    give_texture(item, image)
    write_info(item, folder, result)
    result_info(item).report = json.dumps(measure(item.data))
    return item


def shape_of(data: Any) -> str:
    """Digest of vertices and faces: whether a mesh is still the one that was sent."""
    points = np.empty(3 * len(data.vertices), np.float32)
    corners = np.empty(len(data.loops), np.int32)
    starts = np.empty(len(data.polygons), np.int32)
    data.vertices.foreach_get("co", points)
    data.loops.foreach_get("vertex_index", corners)
    data.polygons.foreach_get("loop_start", starts)
    digest = hashlib.blake2b(digest_size=16)
    for values in (points, corners, starts):
        digest.update(values.tobytes())
    return digest.hexdigest()


def _target(scene: bpy.types.Scene, settings: dict[str, Any]) -> Any:
    """By its number of this session, else by its name: an undo in between gives objects new numbers."""
    meshes = [item for item in scene.objects if item.type == "MESH"]
    for key, value in (("session_uid", settings["object_uid"]), ("name", settings["object"])):
        found = next((item for item in meshes if getattr(item, key) == value), None)
        if found is not None:
            return found
    return None


def _surface(item: Any, with_uvs: bool = True) -> tuple[Mesh, NDArray[np.int32]]:
    """(triangles in the object's own space, corner of the mesh at each of their corners (F, 3)).

    Triangles without UVs are left to the engine to unwrap. It would cut larger faces in two, so those get Blender's UVs.
    """
    data = item.data
    data.calc_loop_triangles()
    count = len(data.loop_triangles)
    points = np.empty(3 * len(data.vertices), np.float32)
    faces, loops = np.empty(3 * count, np.int32), np.empty(3 * count, np.int32)
    data.vertices.foreach_get("co", points)
    data.loop_triangles.foreach_get("vertices", faces)
    data.loop_triangles.foreach_get("loops", loops)
    uvs = None
    if with_uvs and (data.uv_layers or count != len(data.polygons)):
        corners = np.empty(2 * len(data.loops), np.float32)
        if data.uv_layers:
            data.uv_layers.active.uv.foreach_get("vector", corners)
        else:
            corners = _unwrapped(item)
        uvs = corners.reshape(-1, 2)[loops.reshape(-1, 3)]
    return Mesh(points.reshape(-1, 3), faces.reshape(-1, 3), uvs), loops.reshape(-1, 3)


def _unwrapped(item: Any) -> NDArray[np.float32]:
    """(2 L,) UVs that Blender's Smart UV Project gives a copy of the mesh; the mesh itself gets them with its texture."""
    layer, scene = bpy.context.view_layer, bpy.context.scene
    active, selected = layer.objects.active, list(bpy.context.selected_objects)
    copy = bpy.data.objects.new("Maquette UVs", item.data.copy())
    data: Any = copy.data
    try:
        scene.collection.objects.link(copy)
        for other in selected:
            other.select_set(False)
        copy.select_set(True)
        layer.objects.active = copy
        bpy.ops.object.mode_set(mode="EDIT")
        bpy.ops.mesh.reveal(select=False)
        bpy.ops.mesh.select_all(action="SELECT")
        bpy.ops.uv.smart_project(angle_limit=SMART_ANGLE, island_margin=ISLAND_MARGIN)
        bpy.ops.object.mode_set(mode="OBJECT")
        corners = np.empty(2 * len(data.loops), np.float32)
        data.uv_layers.active.uv.foreach_get("vector", corners)
    finally:
        bpy.data.objects.remove(copy)
        bpy.data.meshes.remove(data)
        layer.objects.active = active
        for other in selected:
            other.select_set(True)
    return corners


def _in_result(points: NDArray[Any], mesh: Any, root: Any) -> NDArray[np.float32]:
    """Vertices in the result's frame. What Compare has moved aside counts as if it had not."""
    local = np.array(root.matrix_world.inverted() @ mesh.matrix_world, np.float64)
    if mesh.parent == root:
        local[:3, 3] -= np.array(mesh.matrix_parent_inverse.to_3x3() @ mesh.delta_location)
    if np.allclose(local, np.eye(4), atol=1e-6):  # rounding must not move what nobody has moved
        return np.asarray(points, np.float32)
    return np.asarray(points @ local[:3, :3].T + local[:3, 3], np.float32)


def _write_seen(data: Any, seen: NDArray[Any]) -> None:
    old = data.attributes.get("seen")
    if old is not None:
        data.attributes.remove(old)
    layer: Any = data.attributes.new(name="seen", type="FLOAT", domain="POINT")
    layer.data.foreach_set("value", np.ascontiguousarray(seen, np.float32))


CLASSES = (MAQUETTE_OT_re_bake,)
