# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras around a point, as an artist thinks of them: place and size in the picture, direction, roll, perspective."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..types import Camera
from .rotations import from_axis_angle, turning

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Orbit:
    """Cameras around a point, by seven numbers that are all 0 for the start camera.

    The numbers: right and down in the picture (in radii of the object there), logarithm of the size; azimuth to the
    camera's right, elevation and roll in radians; logarithm of the distance with the size in the picture held.
    """

    start: Camera
    anchor: Floats
    """(3,) the point, world."""
    looking: Floats
    """(3, 3) camera axes in the world if it looked straight at the point."""
    distance: float
    pixel: Floats
    """(2,) where the point shows."""
    radius: float
    """Of the object around the point."""

    @classmethod
    def of(cls, start: Camera, anchor: Floats, radius: float) -> Orbit:
        """Raises InputError BEHIND_CAMERA where the point is not before the camera."""
        (pixel,), (depth,) = start.project(anchor[None])
        if depth <= 0:
            raise InputError(
                "BEHIND_CAMERA", "The object lies behind the camera.", "Turn the camera towards the object."
            )
        rotation = start.cam_to_world[:3, :3]
        offset = anchor - start.centre
        looking = rotation @ turning(np.array([0.0, 0.0, 1.0]), rotation.T @ offset)
        return cls(start, anchor, looking, float(np.linalg.norm(offset)), pixel, radius)

    @property
    def radius_px(self) -> float:
        """Of the object in the picture."""
        return self.start.fx * self.radius / self.distance

    def camera(self, numbers: Floats) -> Camera:
        """The camera of seven numbers."""
        right, down, size, azimuth, elevation, roll, nearness = numbers
        turn = from_axis_angle([0.0, -azimuth, 0.0]) @ from_axis_angle([-elevation, 0.0, 0.0])
        looking = self.looking @ turn @ from_axis_angle([0.0, 0.0, roll])
        distance = self.distance * np.exp(nearness)
        zoom = np.exp(size + nearness)
        start = self.start
        fx, fy = start.fx * zoom, start.fy * zoom
        pixel = self.pixel + self.radius_px * np.array([right, down])
        ray = np.array([(pixel[0] - start.cx) / fx, (pixel[1] - start.cy) / fy, 1.0])
        pose = np.eye(4)
        pose[:3, :3] = looking @ turning(np.array([0.0, 0.0, 1.0]), ray).T
        pose[:3, 3] = self.anchor - distance * looking[:, 2]
        return replace(start, fx=float(fx), fy=float(fy), cam_to_world=pose)


def centred(camera: Camera, anchor: Floats) -> Camera:
    """The same view of the surroundings of a point with the principal point in the middle of the picture, as photos have it."""
    orbit = Orbit.of(camera, anchor, 1.0)
    middle = replace(camera, cx=camera.width / 2, cy=camera.height / 2)
    return replace(orbit, start=middle).camera(np.zeros(7))
