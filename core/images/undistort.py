# SPDX-License-Identifier: GPL-3.0-or-later
"""From photos with lens distortion to pinhole views with square pixels and the same pose.

A view keeps the photo's size (scaled) and its principal point; only the focal lengths become one. So a render through
the view's camera has the photo's shape, and what distortion moves across the border is lost or marked as not valid.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..types import Camera, Photo, View
from .load import read_pixels

# Photos of anamorphic lenses change their shape; below this ratio of fx and fy the shape of the photo is kept.
KEEP_SHAPE_RATIO = 1.05


def undistort(photo: Photo, camera: Camera, max_side: int, mask: NDArray[np.float32] | None = None) -> View:
    """The working picture of a photo.

    Args:
        photo: the source.
        camera: its solved camera, in pixels of the full-resolution photo, with distortion.
        max_side: upper bound for the long side of the view in pixels.
        mask: (h, w) float32 0..1 of the whole photo in any resolution; it wins over the photo's own alpha.

    Returns:
        View with `mask` from the argument, else from alpha, else None.
    """
    target = pinhole_camera(camera, max_side)
    scaled = camera.resized(target.width, target.height)
    if _is_pinhole(scaled):
        rgb, alpha = read_pixels(photo, max(target.width, target.height))
        if mask is not None:
            alpha = cv2.resize(mask, (target.width, target.height), interpolation=cv2.INTER_AREA).astype(
                np.float32
            )
        return View(target, rgb, alpha, None)
    # Twice the size through the lens, then 2 x 2 averages: linear sampling alone would alias or blur. At the size of the
    # photo Lanczos: the cubic kernel of OpenCV moves a dot by up to 0.04 px.
    finer = 2 if max(camera.width, camera.height) >= 2 * max_side else 1
    rgb, alpha = read_pixels(photo, max_side * finer)
    if mask is not None:
        alpha = cv2.resize(mask, rgb.shape[1::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    map_x, map_y = pixel_map(camera, target, rgb.shape[1], rgb.shape[0], finer)
    method = cv2.INTER_LINEAR if finer == 2 else cv2.INTER_LANCZOS4

    def through_lens(plane: NDArray[np.float32], border: int) -> NDArray[np.float32]:
        moved = cv2.remap(plane, map_x, map_y, method, borderMode=border)
        if finer == 2:
            moved = cv2.resize(moved, (target.width, target.height), interpolation=cv2.INTER_AREA)
        return np.asarray(np.clip(moved, 0.0, 1.0), np.float32)

    valid = through_lens(np.ones(rgb.shape[:2], np.float32), cv2.BORDER_CONSTANT)
    valid = (valid > 0.999).astype(np.float32)
    if alpha is None or mask is not None:
        picture = through_lens(rgb, cv2.BORDER_REPLICATE)
    else:  # colours weighted by alpha, as in `read_pixels`
        weight = through_lens(alpha, cv2.BORDER_CONSTANT)[..., None]
        weighted = through_lens(rgb * alpha[..., None], cv2.BORDER_CONSTANT)
        plain = through_lens(rgb, cv2.BORDER_REPLICATE)
        picture = np.where(weight > 1e-3, np.clip(weighted / np.maximum(weight, 1e-3), 0.0, 1.0), plain)
    moved_mask = None if alpha is None else through_lens(alpha, cv2.BORDER_CONSTANT)
    return View(target, picture.astype(np.float32), moved_mask, None if valid.all() else valid)


def pinhole_camera(camera: Camera, max_side: int) -> Camera:
    """The pinhole camera with fx == fy of the view: same pose, the photo's size scaled to at most `max_side`.

    Its focal length is the geometric mean of fx and fy (our choice: loses as much in width as it gains in height).
    """
    focal = float(np.sqrt(camera.fx * camera.fy))
    ratio = max(camera.fx, camera.fy) / min(camera.fx, camera.fy)
    stretch = (focal / camera.fx, focal / camera.fy) if ratio > KEEP_SHAPE_RATIO else (1.0, 1.0)
    width, height = camera.width * stretch[0], camera.height * stretch[1]
    scale = min(1.0, max_side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # One scale for both axes keeps pixels square; rounding the shorter side moves its far border by under half a pixel.
    scale = max(size) / max(width, height)
    return replace(
        camera,
        width=size[0],
        height=size[1],
        fx=focal * scale,
        fy=focal * scale,
        cx=camera.cx * stretch[0] * scale,
        cy=camera.cy * stretch[1] * scale,
        distortion=(0.0, 0.0, 0.0, 0.0),
    )


def pixel_map(
    camera: Camera, target: Camera, width: int, height: int, finer: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where the pixels of `target` come from in the photo of `camera` scaled to width x height.

    Args:
        camera: full-resolution camera with distortion.
        target: pinhole camera of the same pose.
        width: of the scaled photo, pixels.
        height: of the scaled photo, pixels.
        finer: samples per target pixel and axis.

    Returns:
        x and y, each (target.height * finer, target.width * finer) float32, array indices (pixel centres are whole).
    """
    source, goal = camera.resized(width, height), target.resized(target.width * finer, target.height * finer)
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # OpenCV: pixel centres at whole numbers
    map_x, map_y = cv2.initUndistortRectifyMap(
        source.matrix - half,
        np.asarray(camera.distortion, np.float64),
        np.eye(3),
        goal.matrix - half,
        (goal.width, goal.height),
        cv2.CV_32FC1,
    )
    return np.asarray(map_x, np.float32), np.asarray(map_y, np.float32)


def view_picture(photo: Photo, camera: Camera, max_side: int = 4096) -> tuple[NDArray[np.uint8], Camera]:
    """The undistorted picture that Blender shows behind the mesh, and its camera.

    Returns:
        (H, W, 3 or 4) uint8 sRGB (4 where the photo has alpha), and the pinhole camera with fx == fy of that size.
    """
    view = undistort(photo, camera, max_side)
    planes = [view.rgb] if view.mask is None else [view.rgb, view.mask[..., None]]
    return (np.concatenate(planes, 2) * 255.0 + 0.5).astype(np.uint8), view.camera


def save_view_picture(path: Path, photo: Photo, camera: Camera, max_side: int = 4096) -> tuple[Path, Camera]:
    """Write `view_picture` as JPEG, or as PNG where it has alpha; the suffix of `path` is set accordingly."""
    pixels, view_camera = view_picture(photo, camera, max_side)
    has_alpha = pixels.shape[2] == 4
    path = path.with_suffix(".png" if has_alpha else ".jpg")
    if has_alpha:
        Image.fromarray(pixels).save(path, compress_level=3)
    else:
        Image.fromarray(pixels).save(path, quality=93, subsampling=0)
    return path, view_camera


def _is_pinhole(camera: Camera) -> bool:
    """True where leaving out distortion and the difference of fx and fy moves no pixel by 0.01."""
    reach = np.array([camera.width, camera.height]) / 2
    stretch = abs(camera.fx / camera.fy - 1.0) * float(reach.max())
    return stretch < 0.01 and not any(camera.distortion)
