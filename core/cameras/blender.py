# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinhole cameras to Blender's lens, sensor and shift, and back. numpy only: Blender's process uses it.

Blender has no lens distortion and one pixel aspect for a whole scene, so a `Camera` with square pixels
(`SceneCamera.view`) is exact everywhere; one with fx != fy needs the scene's pixel aspect too.
Formulas: `object_camera.cc` of Blender read backwards and checked against `calc_matrix_camera`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Camera

SENSOR_MM = 36.0
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenCV camera axes (x right, y down, z forward) <-> Blender's (x right, y up, -z forward); its own inverse."""


@dataclass(frozen=True)
class BlenderCamera:
    """What has to be set on a camera, its object and the render settings. Sensor fit is AUTO (the longer side)."""

    lens: float
    """Focal length in millimetres."""
    sensor_width: float
    """Millimetres; with AUTO it belongs to the longer side of the picture."""
    shift_x: float
    """Fraction of the longer side, positive moves the picture's centre to the right of the axis."""
    shift_y: float
    resolution: tuple[int, int]
    """Pixels, width and height."""
    pixel_aspect: tuple[float, float]
    """x and y, both >= 1 as Blender asks; (1, 1) for square pixels."""
    matrix: NDArray[np.float64]
    """(4, 4) float64, camera to the camera's world, Blender axes."""


def to_blender(camera: Camera) -> BlenderCamera:
    """The Blender camera that projects exactly as `camera` does, distortion left aside."""
    ratio = camera.fx / camera.fy
    aspect_x, aspect_y = (1.0, ratio) if ratio >= 1.0 else (1.0 / ratio, 1.0)
    longer = max(camera.width * aspect_x, camera.height * aspect_y)
    return BlenderCamera(
        lens=camera.fx * aspect_x * SENSOR_MM / longer,
        sensor_width=SENSOR_MM,
        shift_x=-(camera.cx - camera.width / 2) * aspect_x / longer,
        shift_y=(camera.cy - camera.height / 2) * aspect_y / longer,
        resolution=(camera.width, camera.height),
        pixel_aspect=(aspect_x, aspect_y),
        matrix=camera.cam_to_world @ FLIP,
    )


def from_blender(settings: BlenderCamera, name: str) -> Camera:
    """Inverse of `to_blender`; `settings.matrix` may carry the scale of a parent, which is taken out."""
    width, height = settings.resolution
    aspect_x, aspect_y = settings.pixel_aspect
    longer = max(width * aspect_x, height * aspect_y)
    focal = settings.lens / settings.sensor_width * longer
    pose = np.array(settings.matrix, np.float64)
    pose[:3, :3] /= np.linalg.norm(pose[:3, :3], axis=0)
    return Camera(
        name=name,
        width=width,
        height=height,
        fx=focal / aspect_x,
        fy=focal / aspect_y,
        cx=width / 2 - settings.shift_x * longer / aspect_x,
        cy=height / 2 + settings.shift_y * longer / aspect_y,
        cam_to_world=pose @ FLIP,
    )
