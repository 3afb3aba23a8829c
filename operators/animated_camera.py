# SPDX-License-Identifier: GPL-3.0-or-later
"""Animated Camera: the solved cameras of a numbered sequence as keyframes of one camera."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np
from bpy.props import BoolProperty
from mathutils import Matrix

from ..core.cameras import rotations
from ..core.errors import InputError, MaquetteError
from .cameras import cameras_of, look_through
from .compat import curves_of
from .reports import refuse
from .settings import camera_info, result_info
from .view_through_photo import result_root

if TYPE_CHECKING:
    from .reports import Outcome

log = logging.getLogger(__name__)

ANIMATED = "maquette_animated"
"""Custom property of a camera object that Animated Camera made: it is no photo's camera and not in the list."""


def frame_numbers(names: Sequence[str]) -> dict[str, int]:
    """Picture name -> frame: the last number of names that differ in nothing else.

    Raises:
        InputError: NOT_A_SEQUENCE.
    """
    found: dict[str, int] = {}
    shapes = set()
    for name in names:
        parts = re.fullmatch(r"(.*?)(\d+)(\D*)", Path(name).stem)
        if parts is None:
            raise InputError(
                "NOT_A_SEQUENCE",
                f"{name} has no number.",
                "Name the pictures like frame_0001.jpg, frame_0002.jpg.",
            )
        shapes.add((parts[1].casefold(), parts[3].casefold()))
        found[name] = int(parts[2])
    if len(shapes) > 1 or len(set(found.values())) < len(found):
        raise InputError(
            "NOT_A_SEQUENCE",
            "The pictures are not the frames of one sequence: their names differ in more than one number.",
            "Use pictures that are named like frame_0001.jpg, frame_0002.jpg.",
        )
    return found


class MAQUETTE_OT_animated_camera(bpy.types.Operator):
    """Make one camera that moves through the cameras of a numbered sequence, with the pictures behind it"""

    bl_idname = "maquette.animated_camera"
    bl_label = "Animated Camera"
    bl_options = {"REGISTER", "UNDO"}

    use_frame_range: BoolProperty(
        name="Set Frame Range", description="The scene starts and ends with the sequence", default=True
    )
    use_doubtful: BoolProperty(
        name="Use Doubtful", description="Keyframes for cameras that are graded doubtful, too", default=True
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A result with several cameras has to be there."""
        if context.mode != "OBJECT":
            cls.poll_message_set("Switch to Object mode first")
            return False
        root = result_root(context)
        if root is None or len(cameras_of(root)) < 2:
            cls.poll_message_set("Select an object of a result that has several cameras")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """One camera more; those of the photos stay."""
        root = result_root(context)
        try:
            camera, frames = animate(root, context.scene, self.use_frame_range, self.use_doubtful)
        except MaquetteError as error:
            return refuse(self, error)
        for item in context.selected_objects:
            item.select_set(False)
        camera.select_set(True)
        context.view_layer.objects.active = camera
        self.report({"INFO"}, told(frames))
        return {"FINISHED"}


def told(frames: list[int]) -> str:
    """Frames and gaps in words."""
    missing = [f for f in range(frames[0], frames[-1] + 1) if f not in set(frames)]
    text = f"{len(frames)} keyframes from {frames[0]} to {frames[-1]}"
    if missing:
        named = ", ".join(map(str, missing)) if len(missing) <= 5 else str(len(missing))
        text += (
            f"; without a camera, and passed over smoothly: {named}{' frames' if len(missing) > 5 else ''}"
        )
    return text


def animate(
    root: bpy.types.Object, scene: bpy.types.Scene, use_range: bool, use_doubtful: bool = True
) -> tuple[Any, list[int]]:
    """Make the moving camera below the result's root.

    Returns:
        The camera, and the frames that have a keyframe, ascending.

    Raises:
        InputError: NOT_A_SEQUENCE, TOO_FEW_CAMERAS, MIXED_SIZES; nothing is left then.
    """
    photos = [c for c in cameras_of(root) if use_doubtful or camera_info(c).grade == "good"]
    number = frame_numbers([camera_info(c).photo for c in photos])
    photos.sort(key=lambda c: number[camera_info(c).photo])
    frames = [number[camera_info(c).photo] for c in photos]
    if len(photos) < 2:
        raise InputError(
            "TOO_FEW_CAMERAS", "Fewer than two cameras can be used.", "Use doubtful cameras, too."
        )
    sizes = {(camera_info(c).width, camera_info(c).height) for c in photos}
    if len(sizes) > 1:
        raise InputError(
            "MIXED_SIZES",
            "The pictures of the sequence differ in size.",
            "Use frames of one video or camera setting.",
        )
    first = photos[0]
    data: Any = first.data.copy()
    data.name = f"{root.name.removesuffix(' Root')} Animated Camera"
    camera: Any = bpy.data.objects.new(data.name, data)
    camera[ANIMATED] = True
    camera.parent = root
    camera.rotation_mode = "QUATERNION"
    (root.users_collection[0] if root.users_collection else scene.collection).objects.link(camera)
    _insert(camera, photos, frames)
    info = camera_info(camera)
    info.photo, info.grade, info.reason = "", "good", ""
    info.width, info.height = next(iter(sizes))
    _show_sequence(data, photos, frames, Path(result_info(root).folder) / "views")
    if use_range:
        scene.frame_start, scene.frame_end = frames[0], frames[-1]
    look_through(scene, camera)
    scene.frame_set(min(max(scene.frame_current, frames[0]), frames[-1]))
    return camera, frames


def _insert(camera: Any, photos: list[Any], frames: list[int]) -> None:
    """Keyframes; quaternions keep to one side, so that no turn goes the long way round."""
    before = None
    for frame, photo in zip(frames, photos, strict=True):
        place, turn, _ = Matrix(photo.matrix_basis).decompose()
        quaternion = rotations.to_quaternion(np.array(turn.to_matrix(), np.float64))
        if before is not None and float(before @ quaternion) < 0:
            quaternion = -quaternion
        before = quaternion
        camera.location, camera.rotation_quaternion = place, quaternion.tolist()
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_quaternion", frame=frame)
        for name in ("lens", "shift_x", "shift_y"):
            setattr(camera.data, name, getattr(photo.data, name))
            camera.data.keyframe_insert(name, frame=frame)
    for owner in (camera, camera.data):
        for curve in curves_of(owner):
            for key in curve.keyframe_points:
                key.interpolation = "LINEAR"  # a solved camera shakes as the hand did; nothing is eased
            curve.update()


def _show_sequence(data: Any, photos: list[Any], frames: list[int], views: Path) -> None:
    """The undistorted pictures as an image sequence behind the camera; where they are gone, the photos as they were taken."""
    while data.background_images:
        data.background_images.remove(data.background_images[0])
    info = camera_info(photos[0])
    stem = Path(info.photo).stem
    candidates = [views / f"{stem}{suffix}" for suffix in (".jpg", ".png")] + [Path(info.photo_path)]
    path = next((one for one in candidates if one.is_file()), None)
    if path is None:
        log.warning(
            "no pictures of %s are on disk any more; the animated camera has none behind it", views.parent
        )
        return
    image: Any = bpy.data.images.load(str(path))
    image.source = "SEQUENCE"
    image.name = f"{data.name} Pictures"
    data.show_background_images = True
    shown = data.background_images.new()
    shown.image, shown.frame_method, shown.display_depth = image, "FIT", "BACK"
    shown.alpha = 1.0
    user = shown.image_user
    user.frame_start, user.frame_duration = frames[0], frames[-1] - frames[0] + 1
    user.frame_offset = frames[0] - 1  # the file's number is the scene's frame
    user.use_auto_refresh = True


CLASSES = (MAQUETTE_OT_animated_camera,)
