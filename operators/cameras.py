# SPDX-License-Identifier: GPL-3.0-or-later
"""Solved cameras -> bpy cameras with their photo behind the scene, and looking through one of them."""

from __future__ import annotations

import json
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..core.cameras.blender import BlenderCamera, from_blender, to_blender
from ..core.results import SceneCamera, camera_as_json, camera_from_json
from ..core.types import Camera
from .settings import camera_info

GRADE_COLORS = {
    "good": (0.2, 0.7, 0.3, 1.0),
    "doubtful": (0.9, 0.65, 0.1, 1.0),
    "failed": (0.8, 0.15, 0.1, 1.0),
}


def fill_camera(camera: bpy.types.Object, item: SceneCamera, distance: float) -> None:
    """Lens, sensor, shift, clipping and what is known of the photo.

    Args:
        camera: a new camera object.
        item: `view` is the pinhole camera that Blender shows; `source` serves where there is none.
        distance: metres in Blender's world from the camera to the object's middle; sets clipping and drawing size.
    """
    shown = item.view or item.source
    settings = to_blender(shown)
    data: Any = camera.data
    data.sensor_fit = "AUTO"
    data.sensor_width = settings.sensor_width
    data.lens = settings.lens
    data.shift_x, data.shift_y = settings.shift_x, settings.shift_y
    data.clip_start, data.clip_end = 0.01 * distance, 100.0 * distance
    data.display_size = 0.1 * distance
    info = camera_info(camera)
    info.photo = item.source.name
    info.photo_path = item.photo_path
    info.lens = json.dumps({"photo": camera_as_json(item.source), "view": camera_as_json(shown)})
    info.width, info.height = settings.resolution
    info.pixel_aspect = settings.pixel_aspect
    info.grade = item.source.grade
    info.reason = item.source.reason
    info.silhouette_iou = item.metrics.get("silhouette_iou", -1.0)
    info.photo_psnr = item.metrics.get("photo_psnr", -1.0)
    info.reprojection_px = item.metrics.get("reprojection_px", -1.0)


def place_camera(camera: bpy.types.Object, root: bpy.types.Object, item: SceneCamera) -> None:
    """Hang the camera on the result's root, in the result's frame."""
    camera.parent = root
    camera.rotation_mode = "QUATERNION"  # no gimbal loss in float32
    camera.matrix_basis = Matrix(to_blender(item.view or item.source).matrix.tolist())
    camera.color = GRADE_COLORS[item.source.grade]


def show_photo(data: bpy.types.Camera, image: bpy.types.Image) -> None:
    """The photo as camera background, filling the frame."""
    data.show_background_images = True
    background = data.background_images.new()
    background.image = image
    background.alpha = 1.0
    background.frame_method = "FIT"
    background.display_depth = "BACK"


def look_through(scene: bpy.types.Scene, camera: bpy.types.Object) -> None:
    """Make it the scene's camera and give the render its photo's size."""
    info, render = camera_info(camera), scene.render
    scene.camera = camera
    render.resolution_x, render.resolution_y = info.width, info.height
    render.resolution_percentage = 100
    render.pixel_aspect_x, render.pixel_aspect_y = info.pixel_aspect


def read_camera(camera: bpy.types.Object) -> Camera:
    """The camera as it stands in Blender's world now, back in our convention."""
    data: Any = camera.data
    info = camera_info(camera)
    settings = BlenderCamera(
        lens=data.lens,
        sensor_width=data.sensor_width,
        shift_x=data.shift_x,
        shift_y=data.shift_y,
        resolution=(info.width, info.height),
        pixel_aspect=tuple(info.pixel_aspect),
        matrix=np.array(camera.matrix_world, np.float64),
    )
    return from_blender(settings, info.photo)


def scene_lens(scene: bpy.types.Scene, camera: bpy.types.Object) -> Camera:
    """Any camera of the scene as it stands, for a picture of the render's size (Blender's `BKE_camera_params`, read)."""
    data: Any = camera.data
    render = scene.render
    scale = render.resolution_percentage / 100.0
    width, height = max(round(render.resolution_x * scale), 1), max(round(render.resolution_y * scale), 1)
    across, down = width * render.pixel_aspect_x, height * render.pixel_aspect_y
    fit = data.sensor_fit
    if fit == "AUTO":
        fit = "HORIZONTAL" if across >= down else "VERTICAL"
        sensor = data.sensor_width
    else:
        sensor = data.sensor_width if fit == "HORIZONTAL" else data.sensor_height
    longer = max(across, down)
    settings = BlenderCamera(
        lens=data.lens / sensor * (across if fit == "HORIZONTAL" else down) / longer * data.sensor_width,
        sensor_width=data.sensor_width,
        shift_x=0.0,
        shift_y=0.0,
        resolution=(width, height),
        pixel_aspect=(render.pixel_aspect_x, render.pixel_aspect_y),
        matrix=np.array(camera.matrix_world, np.float64),
    )
    return from_blender(settings, camera.name)


def read_lens(text: str) -> tuple[Camera, Camera]:
    """(camera of the original photo with its distortion, of its undistorted view) out of `CameraInfo.lens`."""
    lens = json.loads(text)
    return camera_from_json(lens["photo"]), camera_from_json(lens["view"])


def cameras_of(root: bpy.types.Object) -> list[bpy.types.Object]:
    """The result's cameras of photos in the order of their names; not one that Animated Camera made of them."""
    found = (child for child in root.children if child.type == "CAMERA" and camera_info(child).photo)
    return sorted(found, key=lambda item: item.name)
