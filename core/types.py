# SPDX-License-Identifier: GPL-3.0-or-later
"""The nouns that cross module borders. numpy only: Blender's process reads them too.

Conventions (docs/CONVENTIONS.md): cameras are OpenCV (x right, y down, z forward), `cam_to_world` 4x4 float64;
pixel (i, j) has its centre at (i + 0.5, j + 0.5); images are (H, W, C) float32 0..1, row 0 at the top, sRGB-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GOOD, DOUBTFUL, FAILED = "good", "doubtful", "failed"


@dataclass(frozen=True)
class Photo:
    """One source picture as it lies on disk; pixels are read on demand (`images.load.read_pixels`)."""

    name: str
    """File name with suffix, unique within a job (images.load makes it so)."""
    path: Path
    width: int
    """Pixels, after EXIF rotation."""
    height: int
    focal_px: float | None = None
    """From EXIF, in pixels of the full-resolution photo; None where EXIF says nothing sensible."""
    has_alpha: bool = False
    exif_orientation: int = 1
    """As stored in the file; `read_pixels` has already applied it, and width/height too."""


@dataclass(frozen=True)
class Camera:
    """A camera: intrinsics in pixels of a width x height picture, pose in the result's frame."""

    name: str
    """The photo's name (`Photo.name`)."""
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    cam_to_world: NDArray[np.float64]
    """(4, 4) float64, OpenCV axes, rotation orthonormal."""
    distortion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """OpenCV k1 k2 p1 p2."""
    grade: str = GOOD
    """good | doubtful | failed."""
    reason: str = ""
    """Why it is not good, in words for an artist."""

    @property
    def matrix(self) -> NDArray[np.float64]:
        """K, (3, 3) float64, pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    @property
    def world_to_cam(self) -> NDArray[np.float64]:
        """(4, 4) float64, inverse of the rigid `cam_to_world`."""
        rotation = self.cam_to_world[:3, :3].T
        out = np.eye(4)
        out[:3, :3] = rotation
        out[:3, 3] = -rotation @ self.cam_to_world[:3, 3]
        return out

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) float64, camera centre in the result's frame."""
        return np.asarray(self.cam_to_world[:3, 3])

    def resized(self, width: int, height: int) -> Camera:
        """The same camera for the same picture scaled to width x height."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=self.cx * sx,
            cy=self.cy * sy,
        )

    def project(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N, 3) points -> ((N, 2) pixels without distortion, (N,) z-depth). Points behind have depth <= 0."""
        local = points @ self.world_to_cam[:3, :3].T + self.world_to_cam[:3, 3]
        depth = local[:, 2]
        safe = np.where(np.abs(depth) < 1e-12, 1e-12, depth)
        pixels = np.stack([self.fx * local[:, 0] / safe + self.cx, self.fy * local[:, 1] / safe + self.cy], 1)
        return pixels, depth


@dataclass
class View:
    """An undistorted working picture with square pixels, its pinhole camera, and what belongs to the object."""

    camera: Camera
    """distortion all zero, fx == fy; width/height are those of `rgb`."""
    rgb: NDArray[np.float32]
    """(H, W, 3) float32, sRGB-encoded 0..1."""
    mask: NDArray[np.float32] | None = None
    """(H, W) float32 0..1: 1 object, 0 not the object; None: the whole scene belongs."""
    valid: NDArray[np.float32] | None = None
    """(H, W) float32: 0 where undistortion left no picture; None: everywhere valid."""


@dataclass
class SparseCloud:
    """Triangulated feature points."""

    points: NDArray[np.float64]
    """(P, 3) float64, result's frame."""
    colors: NDArray[np.uint8]
    """(P, 3) uint8 sRGB."""
    observers: list[NDArray[np.int32]] = field(default_factory=list)
    """Per point: indices into the list of cameras that saw it."""


@dataclass
class PoseEstimate:
    """What an estimator of `core.poses` yields."""

    cameras: list[Camera]
    """Usable cameras (good or doubtful) for the full-resolution photos, in the photos' order."""
    failed: dict[str, str]
    """Photo name -> reason, for photos without a usable camera."""
    cloud: SparseCloud
    method: str
    grade: str
    """A | B | C | D of the whole set (spec-pose C.8)."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """registered, reprojection_px, track_length, triangulation_deg, agreement_deg, photo_check, focal ..."""
    advice: list[str] = field(default_factory=list)
    """Instructions to the artist, e.g. which photos to add where."""
    world: NDArray[np.float64] | None = None
    """world_from_result, (4, 4), where the cameras came with it; None: up, floor and size are to be found."""


@dataclass
class Mesh:
    """A triangle mesh with corner UVs."""

    vertices: NDArray[np.float32]
    """(V, 3) float32, result's frame."""
    faces: NDArray[np.int32]
    """(F, 3) int32, counter-clockwise seen from outside."""
    uvs: NDArray[np.float32] | None = None
    """(F, 3, 2) float32 per corner, origin at the texture's bottom left (Blender, OpenGL)."""
    attributes: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Per vertex: `seen` (V,) 0 invented .. 1 observed; `color` (V, 3) sRGB 0..1; ..."""
