# SPDX-License-Identifier: GPL-3.0-or-later
"""The lowest rungs: a camera that only turned, and cameras that are merely assumed. All are doubtful and say why."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..types import DOUBTFUL, Camera, Photo, PoseEstimate, SparseCloud
from .parallax import turned_cameras
from .structure_from_motion import Solution

FIELD_OF_VIEW = 40.0
"""Degrees across the long side where EXIF is silent (spec-pose C.7)."""
ELEVATION = 15.0
"""Degrees above the object's middle."""
FILL = 0.7
"""Diameter of the object's ball (1 metre) over the short side of the picture."""
EYE = 1.6
"""Metres above the floor at which a camera that only turned is put."""


def alone(photos: list[Photo], reason: str) -> PoseEstimate:
    """One camera in front of the object, the same for all photos."""
    cameras = [_looking(photo, 0.0, np.radians(ELEVATION), reason) for photo in photos]
    return _estimate(cameras, photos, "assumed", [reason[0].upper() + reason[1:] + "."])


def ring(photos: list[Photo], reason: str) -> PoseEstimate:
    """Equal steps once around the object, in the photos' order."""
    steps = 2 * np.pi * np.arange(len(photos)) / len(photos)
    text = f"{reason}: it is assumed on a ring of equal steps"
    cameras = [_looking(p, a, np.radians(ELEVATION), text) for p, a in zip(photos, steps, strict=True)]
    advice = (
        f"The cameras are only assumed ({reason}). Put the object on a patterned surface and take steps under 20 degrees, "
        "or place one or two cameras yourself and give them as a hint."
    )
    return _estimate(cameras, photos, "assumed", [advice])


def turned(photos: list[Photo], solution: Solution) -> PoseEstimate:
    """Directions of a camera that stood still; photos without a link to the others are listed as failed."""
    focal, rotations = turned_cameras(solution.found.pairs, solution.found.keypoints, solution.working)
    names = {copy.name: copy.photo.name for copy in solution.working.copies}
    of_photo = {names[name]: rotation for name, rotation in rotations.items()}
    of_photo |= {
        repeat: of_photo[first] for repeat, first in solution.working.repeats.items() if first in of_photo
    }
    up = np.mean([-rotation[1] for rotation in of_photo.values()], axis=0)
    world = _level(up / max(float(np.linalg.norm(up)), 1e-9), next(iter(of_photo.values()))[2])
    reason = "the camera only turned on the spot: its direction is known, but it sees no depth"
    cameras = []
    for photo in photos:
        if photo.name in of_photo:
            pose = np.eye(4)
            pose[:3, :3] = world @ of_photo[photo.name].T
            pose[:3, 3] = 0.0, 0.0, EYE
            cameras.append(_camera(photo, focal * max(photo.width, photo.height), pose, reason))
    text = (
        "The camera only turned on the spot. Step sideways between photos: it has to move around the object."
    )
    return _estimate(cameras, photos, "turned", [text])


def _level(up: NDArray[np.float64], forward: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation (3, 3) that sends `up` to +Z and `forward` towards +Y."""
    y = forward - (forward @ up) * up
    y /= max(float(np.linalg.norm(y)), 1e-9)
    return np.stack([np.cross(y, up), y, up])


def _estimate(cameras: list[Camera], photos: list[Photo], method: str, advice: list[str]) -> PoseEstimate:
    have = {camera.name for camera in cameras}
    return PoseEstimate(
        cameras=cameras,
        failed={p.name: "shares no view with the other photos" for p in photos if p.name not in have},
        cloud=SparseCloud(np.zeros((0, 3)), np.zeros((0, 3), np.uint8)),
        method=method,
        grade="D",
        metrics={"registered": len(cameras), "photos": len(photos)},
        advice=advice,
        world=np.eye(4),
    )


def _looking(photo: Photo, azimuth: float, elevation: float, reason: str) -> Camera:
    """At the middle of a ball of 1 metre that stands on the floor, from -Y and around against the clock seen from above."""
    focal = photo.focal_px or 0.5 * max(photo.width, photo.height) / np.tan(np.radians(FIELD_OF_VIEW / 2))
    distance = focal / (FILL * min(photo.width, photo.height))
    side = np.array(
        [np.cos(elevation) * np.sin(azimuth), -np.cos(elevation) * np.cos(azimuth), np.sin(elevation)]
    )
    x = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(-side, x), -side], 1)
    pose[:3, 3] = distance * side + [0.0, 0.0, 0.5]
    return _camera(photo, float(focal), pose, reason)


def _camera(photo: Photo, focal: float, pose: NDArray[np.float64], reason: str) -> Camera:
    return Camera(
        photo.name, photo.width, photo.height, focal, focal, photo.width / 2, photo.height / 2, pose,
        grade=DOUBTFUL, reason=reason,
    )  # fmt: skip
