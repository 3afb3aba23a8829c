# SPDX-License-Identifier: GPL-3.0-or-later
"""The geometry that a camera is solved against, drawn as depth, normals and base colour; and light fitted to a photo."""

from __future__ import annotations

from dataclasses import dataclass

import fast_simplification
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..render.rasterize import rasterize
from ..render.shade import pyramid, sample_minified, texels_per_unit
from ..scene_geometry import SceneGeometry
from ..types import Camera

Map = NDArray[np.float32]
Floats = NDArray[np.float64]

GREY = 0.6
"""sRGB base colour where the scene says nothing."""
OUTLINE_FACES = 2000
"""Triangles of the stand-in that is drawn in hundreds of small silhouettes."""
LARGEST_TEXTURE = 1024
"""Pixels; photos of the working size show no more."""


@dataclass(frozen=True)
class Shown:
    """What the geometry shows through a camera."""

    inside: NDArray[np.bool_]
    """(H, W)."""
    depth: Map
    """(H, W) float32 z-depth, infinite outside."""
    normal: Map
    """(H, W, 3) float32 unit, world; 0 outside."""
    albedo: Map
    """(H, W, 3) float32 linear base colour; 0 outside."""


class Model:
    """Scene geometry in torch.

    Args:
        geometry: as it was handed over.
    """

    def __init__(self, geometry: SceneGeometry) -> None:
        self.vertices = torch.as_tensor(geometry.vertices)
        self.faces = torch.as_tensor(geometry.faces).long()
        low, high = _bounds(geometry)
        self.anchor: Floats = 0.5 * (low + high)
        """(3,) middle of the geometry."""
        used = geometry.vertices[np.unique(geometry.faces)]
        self.radius = float(np.linalg.norm(used - self.anchor, axis=1).max())
        if not self.radius > 0:
            raise InputError(
                "EMPTY_GEOMETRY", "The geometry is a single point.", "Select a mesh with a surface."
            )
        self._normals = _corner_normals(geometry)
        self._colors = torch.as_tensor(
            np.full((len(geometry.faces), 3, 3), GREY, np.float32)
            if geometry.corner_colors is None
            else geometry.corner_colors.astype(np.float32) / 255.0
        )
        self._uvs = None if geometry.uvs is None else torch.as_tensor(geometry.uvs).float()
        self._texture = (
            torch.full((len(self.faces),), -1)
            if geometry.face_texture is None or self._uvs is None
            else torch.as_tensor(geometry.face_texture.astype(np.int64))
        )
        self._pyramids = [_read_texture(path) for path in geometry.textures]
        self._outline = _simplified(geometry.vertices, geometry.faces)
        self._density: dict[int, Tensor] = {}
        self.has_colours = bool((self._texture >= 0).any()) or float(self._colors.std((0, 1)).max()) > 0.03

    def outline(self, camera: Camera) -> NDArray[np.bool_]:
        """(H, W) silhouette of a coarse stand-in."""
        vertices, faces = self._outline
        return np.asarray(rasterize(vertices, faces, camera).face.numpy() >= 0)

    def covers(self, camera: Camera) -> NDArray[np.bool_]:
        """(H, W) exact silhouette."""
        return np.asarray(rasterize(self.vertices, self.faces, camera).face.numpy() >= 0)

    def show(self, camera: Camera) -> Shown:
        """Everything that can be told about each pixel."""
        raster = rasterize(self.vertices, self.faces, camera)
        flat = raster.face.reshape(-1).long()
        pixel = torch.nonzero(flat >= 0).squeeze(1)
        face, weights = flat[pixel], raster.barycentric.reshape(-1, 3)[pixel]
        depth = raster.depth.reshape(-1)[pixel]
        normal = torch.zeros((len(flat), 3))
        albedo = torch.zeros((len(flat), 3))
        here = (weights[:, :, None] * self._normals[face]).sum(1)
        normal[pixel] = torch.nn.functional.normalize(here, dim=1)
        albedo[pixel] = _linear(self._colour(face, weights, depth / camera.fx))
        size = raster.face.shape
        return Shown(
            (raster.face >= 0).numpy(),
            raster.depth.numpy(),
            normal.reshape(*size, 3).numpy(),
            albedo.reshape(*size, 3).numpy(),
        )

    def _colour(self, face: Tensor, weights: Tensor, pixel_size: Tensor) -> Tensor:
        """(N, 3) sRGB base colour."""
        colour = (weights[:, :, None] * self._colors[face]).sum(1)
        owner = self._texture[face]
        for number, steps in enumerate(self._pyramids):
            index = torch.nonzero(owner == number).squeeze(1)
            if not len(index) or self._uvs is None:
                continue
            if number not in self._density:
                size = max(steps[0].shape[1:])
                self._density[number] = texels_per_unit(self.vertices, self.faces, self._uvs, size)
            uv = (weights[index, :, None] * self._uvs[face[index]]).sum(1)
            place = torch.stack([uv[:, 0] % 1.0, 1.0 - uv[:, 1] % 1.0], 1)
            footprint = pixel_size[index] * self._density[number][face[index]]
            colour[index] = sample_minified(steps, place, footprint)
        return colour


def fit_light(shown: Shown, photo: Map, use: NDArray[np.bool_]) -> Map:
    """The picture of the geometry under the light that explains the photo best.

    Nine spherical harmonics of the normal per colour channel (Ramamoorthi and Hanrahan 2001, eq. 3), least squares with one
    round of down-weighting what does not fit (highlights, shadows, things in front).

    Args:
        shown: what is drawn.
        photo: (H, W, 3) float32 sRGB 0..1.
        use: (H, W) pixels that the fit may use.

    Returns:
        (H, W, 3) float32 sRGB 0..1, 0 outside the geometry.
    """
    rows = np.flatnonzero(use & shown.inside)
    out = np.zeros_like(photo)
    if len(rows) < 50:
        return out
    some = rows[:: max(1, len(rows) // 6000)]
    basis = _harmonics(shown.normal.reshape(-1, 3)[shown.inside.ravel()])
    index = np.cumsum(shown.inside.ravel()) - 1
    colours = shown.albedo.reshape(-1, 3)[shown.inside.ravel()]
    target = _linear(torch.as_tensor(photo.reshape(-1, 3)[some])).numpy()
    lit = np.empty_like(colours)
    for channel in range(3):
        design = basis[index[some]] * colours[index[some], channel, None]
        weight = np.ones(len(some), np.float32)
        ridge = (
            1e-3 * len(some) * np.diag([0.0] + [0.01] * 8) * float((colours[:, channel] ** 2).mean() + 1e-6)
        )
        for _ in range(2):
            normal = design.T @ (design * weight[:, None]) + ridge + 1e-9 * np.eye(9)
            light = np.linalg.solve(normal, design.T @ (target[:, channel] * weight))
            error = np.abs(design @ light - target[:, channel])
            weight = 1.0 / (1.0 + (error / max(2.0 * float(np.median(error)), 1e-3)) ** 2)
        lit[:, channel] = colours[:, channel] * (basis @ light)
    out.reshape(-1, 3)[shown.inside.ravel()] = np.clip(lit, 0.0, 1.0) ** (1 / 2.2)
    return out


def _harmonics(normal: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 3) unit -> (N, 9), constants left out: the fit finds them."""
    x, y, z = normal.T
    return np.stack([np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], 1).astype(
        np.float32
    )


def _linear(srgb: Tensor) -> Tensor:
    """Close enough to the sRGB curve for fitting light: a power of 2.2."""
    return srgb.clamp(0, 1) ** 2.2


def _bounds(geometry: SceneGeometry) -> tuple[Floats, Floats]:
    used = geometry.vertices[np.unique(geometry.faces)].astype(np.float64)
    return used.min(0), used.max(0)


def _corner_normals(geometry: SceneGeometry) -> Tensor:
    if geometry.corner_normals is not None:
        return torch.as_tensor(geometry.corner_normals).float()
    a, b, c = torch.as_tensor(geometry.vertices)[torch.as_tensor(geometry.faces).long()].unbind(1)
    flat = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    return flat[:, None].expand(-1, 3, -1).contiguous()


def _read_texture(path: object) -> list[Tensor]:
    try:
        with Image.open(str(path)) as image:
            image.thumbnail((LARGEST_TEXTURE, LARGEST_TEXTURE), Image.Resampling.BOX)
            pixels = np.asarray(image.convert("RGB"), np.float32) / 255.0
    except (OSError, ValueError) as error:
        raise InputError(
            "MESH_UNREADABLE", f"The texture {path} cannot be read.", "Start the job again."
        ) from error
    return pyramid(torch.as_tensor(pixels).permute(2, 0, 1), 8)


def _simplified(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> tuple[Tensor, Tensor]:
    if len(faces) > OUTLINE_FACES:
        # Corners that a loader has split at seams hold the surface together again.
        points, number = np.unique(vertices, axis=0, return_inverse=True)
        vertices, faces = fast_simplification.simplify(
            np.ascontiguousarray(points, np.float32),
            np.ascontiguousarray(number.reshape(-1)[faces].astype(np.int32)),
            1.0 - OUTLINE_FACES / len(faces),
        )
    return torch.as_tensor(np.asarray(vertices, np.float32)), torch.as_tensor(np.asarray(faces)).long()
