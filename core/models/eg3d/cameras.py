# SPDX-License-Identifier: GPL-3.0-or-later
"""EG3D's camera labels: look-at cameras, lenses, poses of Deep3DFaceRecon, the crop of a portrait; to our cameras and back.

The generator's world is y-up with the face towards +z; ours is z-up with the front towards -y and in metres. One unit is
0.1 / 0.27 m for faces: their labels come from a face model in decimetres, scaled by 0.27.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...types import Camera

Floats = NDArray[np.float64]

FOCAL = 4.2647
"""Of the face and cat networks, in widths of the picture (2985.29 / 700): a field of view of 13.37 degrees."""
CAR_FOCAL = 1.0254
RADIUS = 2.7
METRES = 0.1 / 0.27
"""Of one unit of the face networks."""
WORLD_FROM_HEAD: Floats = np.array([[1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]])
"""(x, y, z) -> (x, -z, y); times `METRES` for the size."""
STANDARD_LANDMARKS: Floats = np.array(
    [
        [-0.3114865720272064, 0.29036077857017517, 0.13377952575683594],
        [0.30979886651039124, 0.289720356464386, 0.1317952573299408],
        [0.003253498813137412, -0.04617932438850403, 0.5524424314498901],
        [-0.25216928124427795, -0.3813391625881195, 0.22405731678009033],
        [0.24846619367599487, -0.38128235936164856, 0.22235769033432007],
    ]
)
"""Eyes left and right in the picture, nose, mouth corners of the mean face, decimetres (Deep3DFaceRecon)."""


def look_at(h: float, v: float, target: ArrayLike, radius: float) -> Floats:
    """(4, 4) camera-to-world, OpenCV axes, on a sphere around the origin.

    Args:
        h: radians around the vertical; pi / 2 is in front of the face.
        v: pi / 2 is level; not the polar angle: that is arccos(1 - 2 v / pi).
        target: (3,) what the camera looks at; the sphere does not move with it.
        radius: of the sphere.
    """
    v = min(max(v, 1e-5), math.pi - 1e-5)
    phi = math.acos(1.0 - 2.0 * v / math.pi)
    eye = radius * np.array(
        [math.sin(phi) * math.cos(math.pi - h), math.cos(phi), math.sin(phi) * math.sin(math.pi - h)]
    )
    forward = _unit(np.asarray(target, np.float64) - eye)
    right = -_unit(np.cross([0.0, 1.0, 0.0], forward))
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, _unit(np.cross(forward, right)), forward], 1)
    pose[:3, 3] = eye
    return pose


def intrinsics(focal: float = FOCAL) -> Floats:
    """(3, 3) K of a picture of side 1, principal point in its middle."""
    return np.array([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])


def focal_of(diagonal_deg: float) -> float:
    """Focal length of the published helper: the angle is that of the diagonal, with its rounded constants."""
    return 1.0 / (math.tan(diagonal_deg * 3.14159 / 360.0) * 1.414)


def label_of(pose: ArrayLike, k: ArrayLike | None = None) -> NDArray[np.float32]:
    """(25,) label of a camera-to-world (4, 4) and a normalised K (3, 3); None: the face networks'."""
    k = intrinsics() if k is None else np.asarray(k)
    return np.concatenate([np.asarray(pose).reshape(16), k.reshape(9)]).astype(np.float32)


def frontal_label(
    radius: float = RADIUS, pivot: ArrayLike = (0.0, 0.0, 0.2), focal: float = FOCAL
) -> NDArray[np.float32]:
    """(25,) the label on which the published programs condition."""
    return label_of(look_at(math.pi / 2, math.pi / 2, pivot, radius), intrinsics(focal))


def camera_of(label: ArrayLike, side: int, name: str = "view") -> Camera:
    """A label (25,) as a camera of a square picture, in the generator's frame (a Result's frame, see `WORLD_FROM_HEAD`).

    The shear of K, which no network uses, is left out.
    """
    values = np.asarray(label, np.float64)
    k = values[16:25].reshape(3, 3) * side
    return Camera(
        name,
        side,
        side,
        float(k[0, 0]),
        float(k[1, 1]),
        float(k[0, 2]),
        float(k[1, 2]),
        values[:16].reshape(4, 4),
    )


def label_from(camera: Camera) -> NDArray[np.float32]:
    """Inverse of `camera_of`; the picture has to be square."""
    assert camera.width == camera.height, f"{camera.width} x {camera.height}"
    k = camera.matrix / camera.width
    k[2, 2] = 1.0
    return label_of(camera.cam_to_world, k)


def car_pose(pose: ArrayLike) -> Floats:
    """A pose (4, 4) of a y-up world in the z-up world of the cars: (x, y, z) -> (z, x, y)."""
    return np.asarray(pose, np.float64)[[2, 0, 1, 3]]


def deep3d_pose(angles: ArrayLike, translation: ArrayLike, rescale: bool = True) -> Floats:
    """(4, 4) camera-to-world of a face that Deep3DFaceRecon placed.

    Args:
        angles: (3,) radians about x, y, z; the face's rotation is (Rz Ry Rx)^T.
        translation: (3,) of the face, decimetres; its camera stands 10 away.
        rescale: move the camera to the networks' distance from the origin.
    """
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles), np.cos(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rotation = (about_z @ about_y @ about_x).T
    centre = -rotation @ (np.asarray(translation, np.float64) - [0.0, 0.0, 10.0]) * 0.27
    centre += [0.0, 0.006, 0.161]
    pose = np.eye(4)
    pose[:3, :3] = rotation @ np.diag([1.0, -1.0, -1.0])
    pose[:3, 3] = centre / np.linalg.norm(centre) * RADIUS if rescale else centre
    return pose


def mirrored(pose: ArrayLike) -> Floats:
    """The pose (4, 4) of the picture mirrored left to right."""
    sign = np.ones((4, 4))
    sign[[0, 0, 1, 2, 0], [1, 2, 0, 0, 3]] = -1.0
    return np.asarray(pose, np.float64) * sign


@dataclass(frozen=True)
class FaceCrop:
    """How a portrait is resized and cut for the face networks."""

    scale: float
    """Of the picture."""
    centre: tuple[float, float]
    """(tx, ty) of the mean face's origin in the picture, pixels, y upwards."""
    resized: tuple[int, int]
    """Width and height after scaling."""
    left: int
    top: int
    """Corner of the square in the resized picture; what lies outside is black."""
    landmarks: Floats
    """(5, 2) in the square, y upwards."""


def face_crop(
    size: tuple[int, int], landmarks: ArrayLike, side: int = 1024, rescale: float = 300.0
) -> FaceCrop:
    """The similarity that takes five landmarks to the mean face's (least squares), as a crop.

    EG3D cuts 1024 pixels at rescale 300 and takes the middle 700; the pose network takes 224 at 102.

    Args:
        size: width and height in pixels.
        landmarks: (5, 2) pixels, y downwards, in the order of `STANDARD_LANDMARKS`.
        side: of the square.
        rescale: pixels per decimetre in the square.
    """
    width, height = size
    points = np.asarray(landmarks, np.float64).copy()
    points[:, 1] = height - 1 - points[:, 1]
    known = np.concatenate([STANDARD_LANDMARKS, np.ones((5, 1))], 1)  # (5, 4)
    found = np.linalg.lstsq(known, points, rcond=None)[0]  # (4, 2)
    scale = rescale / np.linalg.norm(found[:3], axis=0).mean()
    tx, ty = found[3]
    resized = int(width * scale), int(height * scale)
    left = int(resized[0] / 2 - side / 2 + (tx - width / 2) * scale)
    top = int(resized[1] / 2 - side / 2 + (height / 2 - ty) * scale)
    inside = (points - [tx, ty] + [width / 2, height / 2]) * scale - [
        resized[0] / 2 - side / 2,
        resized[1] / 2 - side / 2,
    ]
    return FaceCrop(float(scale), (float(tx), float(ty)), resized, left, top, inside)


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))
