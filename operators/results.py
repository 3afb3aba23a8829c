# SPDX-License-Identifier: GPL-3.0-or-later
"""A Result folder -> Blender: one collection with a root, meshes, cameras and photos, or nothing at all."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import bpy
import numpy as np
from mathutils import Matrix

from ..core.errors import InputError
from ..core.results import Result, SceneCamera, SceneObject, read_mesh, read_result
from ..core.types import Mesh
from .cameras import fill_camera, look_through, place_camera, show_photo
from .meshes import check_mesh, fill_material, fill_mesh, pack_image
from .settings import camera_info, result_info

log = logging.getLogger(__name__)

Made = TypeVar("Made", bound=bpy.types.ID)

INFO_SCHEMA = 1
"""Version of what `ResultInfo` holds."""


@dataclass
class Imported:
    """The datablocks of one import. Handles for the caller's own block of code only: an undo makes them invalid."""

    collection: bpy.types.Collection
    root: bpy.types.Object
    meshes: list[bpy.types.Object] = field(default_factory=list)
    cameras: list[bpy.types.Object] = field(default_factory=list)


class _Creation:
    """Every datablock made so far, so that a failure can take all of them back."""

    def __init__(self) -> None:
        self._made: list[bpy.types.ID] = []

    def keep(self, made: Made) -> Made:
        """Remember a datablock that was just made."""
        self._made.append(made)
        return made

    def take_back(self) -> None:
        """Remove them all."""
        bpy.data.batch_remove(self._made)


def import_result(folder: Path, scene: bpy.types.Scene, name: str = "") -> Imported:
    """Bring a Result into a scene.

    Args:
        folder: what `core.results` describes.
        scene: gets the active camera and its photo's render size.
        name: for the collection and a single object; empty: the result's own name for both.

    Returns:
        What was created.

    Raises:
        InputError: RESULT_UNREADABLE, RESULT_TOO_NEW, MESH_BROKEN; nothing is left in the file then.
    """
    result = read_result(folder)
    meshes = [_read_object(folder, item) for item in result.objects]
    result.name = name or result.name
    if len(result.objects) == 1:
        result.objects[0].name = result.name
    creation = _Creation()
    try:
        imported = _create(creation, folder, result, meshes)
        scene.collection.children.link(imported.collection)
    except Exception:
        creation.take_back()
        raise
    active = next((c for c in imported.cameras if camera_info(c).photo == result.active_camera), None)
    if active or imported.cameras:
        look_through(scene, active or imported.cameras[0])
    log.info("Imported %s: %d meshes, %d cameras", folder, len(imported.meshes), len(imported.cameras))
    return imported


def _read_object(folder: Path, item: SceneObject) -> Mesh:
    path = folder / item.mesh
    try:
        mesh = read_mesh(path)
    except Exception as error:  # numpy raises four unrelated types for a damaged archive
        raise InputError("RESULT_UNREADABLE", f"{path} cannot be read.", "Make the result again.") from error
    check_mesh(mesh, path)
    return mesh


def _create(creation: _Creation, folder: Path, result: Result, meshes: list[Mesh]) -> Imported:
    collection = creation.keep(bpy.data.collections.new(result.name))
    root = creation.keep(bpy.data.objects.new(f"{result.name} Root", None))
    collection.objects.link(root)
    root.empty_display_type = "ARROWS"
    root.matrix_basis = Matrix(np.asarray(result.world_from_result).tolist())
    write_info(root, folder, result)
    imported = Imported(collection, root)
    for item, mesh in zip(result.objects, meshes, strict=True):
        made = _create_mesh(creation, folder, item, mesh)
        made.parent = root
        write_info(made, folder, result)
        result_info(made).report = json.dumps(item.report)
        collection.objects.link(made)
        imported.meshes.append(made)
    if not meshes and result.points_file:
        cloud = _create_points(creation, folder / result.points_file)
        cloud.parent = root
        collection.objects.link(cloud)
        imported.meshes.append(cloud)
    root.empty_display_size = 0.25 * _extent(meshes)
    middle = _middle(meshes)
    for view in result.cameras:
        made = _create_camera(creation, folder, result, view, middle)
        place_camera(made, root, view)
        collection.objects.link(made)
        imported.cameras.append(made)
    return imported


def _create_mesh(creation: _Creation, folder: Path, item: SceneObject, mesh: Mesh) -> bpy.types.Object:
    data = creation.keep(bpy.data.meshes.new(item.name))
    fill_mesh(data, mesh)
    image = None
    if "base_color" in item.textures:
        image = creation.keep(bpy.data.images.new(f"{item.name} Base Color", 1, 1))
        pack_image(image, folder / item.textures["base_color"])
    material = creation.keep(bpy.data.materials.new(item.name))
    fill_material(material, image, "color" if "color" in mesh.attributes else None)
    data.materials.append(material)
    return creation.keep(bpy.data.objects.new(item.name, data))


def _create_points(creation: _Creation, path: Path) -> bpy.types.Object:
    """The sparse cloud, for results that have cameras and no surface."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            points, colors = arrays["points"], arrays["colors"] / 255.0
    except Exception as error:  # as in _read_object
        raise InputError("RESULT_UNREADABLE", f"{path} cannot be read.", "Make the result again.") from error
    cloud = Mesh(points, np.zeros((0, 3), np.int32), attributes={"color": colors})
    check_mesh(cloud, path)
    data = creation.keep(bpy.data.meshes.new("Points"))
    fill_mesh(data, cloud)
    return creation.keep(bpy.data.objects.new("Points", data))


def _create_camera(
    creation: _Creation, folder: Path, result: Result, item: SceneCamera, middle: np.ndarray
) -> bpy.types.Object:
    name = Path(item.source.name).stem
    scale = np.cbrt(np.linalg.det(result.world_from_result[:3, :3]))
    distance = float(np.linalg.norm(item.source.centre - middle) * scale) or 1.0
    data = creation.keep(bpy.data.cameras.new(name))
    camera = creation.keep(bpy.data.objects.new(name, data))
    fill_camera(camera, item, distance)
    if item.image:
        image = creation.keep(bpy.data.images.new(item.source.name, 1, 1))
        pack_image(image, folder / item.image)
        show_photo(data, image)
    return camera


def write_info(target: bpy.types.Object, folder: Path, result: Result) -> None:
    """Where it came from, on the object itself: it stays when the Result folder is gone."""
    info = result_info(target)
    info.schema = INFO_SCHEMA
    info.folder = str(folder.resolve())
    info.method = result.method
    info.seed = str(result.seed)  # a Blender integer has 32 bits
    info.device = result.device
    info.model = str(result.model.get("name", ""))
    info.licence = str(result.model.get("licence", ""))
    info.settings = json.dumps(result.settings)
    info.metrics = json.dumps(result.metrics)
    info.timings = json.dumps(result.timings_s)
    info.failed = json.dumps(result.failed)
    info.has_field = result.field_file is not None
    info.warnings = "\n".join(result.warnings)


def _middle(meshes: list[Mesh]) -> np.ndarray:
    """(3,) middle of the bounds in the result's frame; the origin where there is no mesh."""
    filled = [mesh.vertices for mesh in meshes if len(mesh.vertices)]
    if not filled:
        return np.zeros(3)
    low = np.min([v.min(axis=0) for v in filled], axis=0)
    high = np.max([v.max(axis=0) for v in filled], axis=0)
    return np.asarray((low + high) / 2)


def _extent(meshes: list[Mesh]) -> float:
    """Longest side of the bounds in the result's frame; 1 where there is no mesh."""
    sizes = [np.ptp(mesh.vertices, axis=0).max() for mesh in meshes if len(mesh.vertices)]
    return float(max(sizes, default=1.0))
