# SPDX-License-Identifier: GPL-3.0-or-later
"""Orient: gravity, floor and scale of a result, by moving its root alone; meshes and cameras follow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np
from bpy.props import EnumProperty, FloatProperty
from mathutils import Matrix
from numpy.typing import NDArray

from ..core.cameras import rotations
from ..core.errors import InputError, MaquetteError
from ..core.poses.frame import find_ground
from ..core.types import SparseCloud
from .cameras import cameras_of, read_camera
from .reports import refuse
from .settings import camera_info, result_info
from .view_through_photo import result_root

if TYPE_CHECKING:
    from .reports import Outcome

Floats = NDArray[np.float64]


class MAQUETTE_OT_orient(bpy.types.Operator):
    """Turn, move or scale the whole result, its cameras included, so that it stands upright at its true size"""

    bl_idname = "maquette.orient"
    bl_label = "Orient"
    bl_options = {"REGISTER", "UNDO"}

    method: EnumProperty(
        name="By",
        items=[
            ("CAMERAS", "Cameras", "People hold cameras level; the floor is found among the sparse points"),
            ("FLOOR", "Three Points", "Three selected vertices, or three selected empties, lie on the floor"),
            ("LENGTH", "Known Length", "Two selected vertices, or two selected empties, are this far apart"),
        ],
    )
    length: FloatProperty(
        name="Length",
        description="True distance between the two points",
        default=1.0,
        min=1e-6,
        unit="LENGTH",
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        """By method."""
        return {
            "CAMERAS": "Set the result upright as its cameras were held, and its floor on the ground",
            "FLOOR": "Lay the plane through three selected points on the ground, the cameras above it",
            "LENGTH": "Scale the result so that two selected points are this far apart",
        }[properties.method]

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A result has to be there."""
        if context.mode not in ("OBJECT", "EDIT_MESH"):
            cls.poll_message_set("Switch to Object mode first")
            return False
        if result_root(context) is None and _parent_root(context) is None:
            cls.poll_message_set("Select an object of a result, or points on it")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Only the root's matrix changes."""
        root = _parent_root(context) or result_root(context)
        try:
            points = selected_points(context) if self.method != "CAMERAS" else np.zeros((0, 3))
            if context.mode == "EDIT_MESH":  # an undo step of Edit mode does not hold objects
                bpy.ops.object.mode_set(mode="OBJECT")
            change, told = {"CAMERAS": _by_cameras, "FLOOR": _by_floor, "LENGTH": self._by_length}[
                self.method
            ](root, points)
        except MaquetteError as error:
            return refuse(self, error)
        root.matrix_world = Matrix(change.tolist()) @ root.matrix_world
        context.view_layer.update()
        self.report({"INFO"}, told)
        return {"FINISHED"}

    def _by_length(self, root: Any, points: Floats) -> tuple[Floats, str]:
        _need(points, 2)
        present = float(np.linalg.norm(points[1] - points[0]))
        if present < 1e-9:
            raise InputError(
                "POINTS_COINCIDE", "The two points lie in one place.", "Select two points that are apart."
            )
        factor = self.length / present
        foot = points.mean(0) * [1.0, 1.0, 0.0]  # what stands on the ground stays there
        change = np.eye(4)
        change[:3, :3] *= factor
        change[:3, 3] = (1.0 - factor) * foot
        return change, f"Scaled by {factor:.4g}"


class MAQUETTE_OT_add_point(bpy.types.Operator):
    """Add a point at the 3D cursor, which Shift and the right mouse button put on a surface; Orient uses selected points"""

    bl_idname = "maquette.add_point"
    bl_label = "Add Point at Cursor"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """As the result that it is a point of."""
        if context.mode != "OBJECT":
            cls.poll_message_set("Switch to Object mode first")
            return False
        if result_root(context) is None and _parent_root(context) is None:
            cls.poll_message_set("Select an object of a result first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """An empty below the root; the points chosen before stay chosen, everything else does not."""
        root = _parent_root(context) or result_root(context)
        for item in context.selected_objects:
            if not _is_point(item):
                item.select_set(False)
        point = bpy.data.objects.new("Orient Point", None)
        point.empty_display_type = "SPHERE"
        scale = float(np.cbrt(abs(root.matrix_world.determinant()))) or 1.0
        point.empty_display_size = 0.1 * root.empty_display_size
        context.collection.objects.link(point)
        point.parent = root
        point.matrix_parent_inverse = Matrix.Identity(4)
        point.matrix_world = Matrix.Translation(context.scene.cursor.location) @ Matrix.Scale(scale, 4)
        point.select_set(True)
        context.view_layer.objects.active = point
        return {"FINISHED"}


def selected_points(context: bpy.types.Context) -> Floats:
    """(N, 3) float64 world: the selected vertices of the mesh in Edit mode, else the selected empties that are points."""
    item: Any
    if context.mode == "EDIT_MESH":
        found: list[Any] = []
        for item in context.objects_in_mode:
            item.update_from_editmode()
            found += [item.matrix_world @ vertex.co for vertex in item.data.vertices if vertex.select]
        return np.array([tuple(place) for place in found], np.float64).reshape(-1, 3)
    chosen: list[Any] = [item for item in context.selected_objects if _is_point(item)]
    places = [tuple(item.matrix_world.translation) for item in chosen]
    return np.array(places, np.float64).reshape(-1, 3)


def _is_point(item: Any) -> bool:
    return bool(item.type == "EMPTY" and not result_info(item).schema and item.empty_display_type != "IMAGE")


def _parent_root(context: bpy.types.Context) -> Any:
    """The root of the result that a selected point or mesh hangs on."""
    for item in (context.active_object, *context.selected_objects):
        parent = item.parent if item is not None else None
        if parent is not None and result_info(parent).schema and parent.type == "EMPTY":
            return parent
    return None


def _need(points: Floats, count: int) -> None:
    if len(points) != count:
        raise InputError(
            "WRONG_POINTS",
            f"{len(points)} points are selected; {count} are needed.",
            f"Select {count} vertices in Edit mode, or {count} empties (Add Point at Cursor makes them).",
        )


def _by_cameras(root: Any, points: Floats) -> tuple[Floats, str]:
    """Upright by the cameras in the world as they stand, exact by the floor among the sparse points."""
    cameras = [read_camera(item) for item in cameras_of(root) if camera_info(item).photo]
    if not cameras:
        raise InputError("NO_CAMERA", "This result has no cameras.", "Orient it by three points.")
    cloud = SparseCloud(_sparse_points(root), np.zeros((0, 3), np.uint8))
    ground = find_ground(cameras, cloud)
    change = np.eye(4)
    turn = rotations.turning(ground.up, np.array([0.0, 0.0, 1.0]))
    middle = np.array(root.matrix_world.translation, np.float64)
    change[:3, :3] = turn
    change[:3, 3] = middle - turn @ middle
    angle = float(rotations.angle_deg(turn))
    if ground.level is None:
        return (
            change,
            f"Turned by {angle:.1f} degrees as the cameras were held; no floor was found among the points",
        )
    # The plane up . x = level turns about `middle` into z = middle_z + level - up . middle.
    change[2, 3] -= float(middle[2] + ground.level - ground.up @ middle)
    return change, f"Turned by {angle:.1f} degrees; the floor lies on the ground"


def _by_floor(root: Any, points: Floats) -> tuple[Floats, str]:
    """The plane of three points becomes the ground, with the cameras (or most of the mesh) above it."""
    _need(points, 3)
    normal = np.cross(points[1] - points[0], points[2] - points[0])
    length = float(np.linalg.norm(normal))
    if length < 1e-6 * float(np.ptp(points, axis=0).max()) ** 2 or length == 0.0:
        raise InputError(
            "POINTS_IN_LINE", "The three points lie on one line.", "Select three points that span the floor."
        )
    up = normal / length
    above = [np.array(item.matrix_world.translation, np.float64) for item in cameras_of(root)]
    if not above:
        above = [
            np.array(item.matrix_world, np.float64)[:3] @ [*corner, 1.0]
            for item in root.children
            if item.type == "MESH"
            for corner in item.bound_box
        ]
    side = float(np.mean([(place - points[0]) @ up for place in above])) if above else float(up[2])
    up = up if side >= 0 else -up
    turn = rotations.turning(up, np.array([0.0, 0.0, 1.0]))
    foot = points.mean(0)
    change = np.eye(4)
    change[:3, :3] = turn
    change[:3, 3] = foot * [1.0, 1.0, 0.0] - turn @ foot
    return (
        change,
        f"Turned by {float(rotations.angle_deg(turn)):.1f} degrees; the three points lie on the ground",
    )


def _sparse_points(root: Any) -> Floats:
    """(N, 3) world: the result's sparse cloud, from its folder; none where that is gone."""
    path = Path(result_info(root).folder) / "points.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            points = np.asarray(arrays["points"], np.float64).reshape(-1, 3)
    except (OSError, ValueError, KeyError):
        return np.zeros((0, 3))
    world = np.array(root.matrix_world, np.float64)
    return np.asarray(points @ world[:3, :3].T + world[:3, 3])


CLASSES = (MAQUETTE_OT_orient, MAQUETTE_OT_add_point)
