# SPDX-License-Identifier: GPL-3.0-or-later
"""One training record per object: lit pictures with their cameras, points with signed distances, surface points with colours.

Meshes of the packs are open and made of overlapping parts, so inside and outside come from looking: a point is outside
when some of 30 depth pictures sees past it through the front of a face or to the background; everything else is inside.
Distances are to the surface that those pictures see. Rays that first meet the back of a face prove nothing (they came in
through an opening).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from maquette.core.models.lrm.object_lrm import FILL, SIDE
from maquette.core.render.rasterize import Raster, rasterize
from maquette.core.types import Camera
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .objects import ColouredMesh

VIEWS, NEAR, FREE, SURFACE = 8, 8192, 4096, 4096
LOOKS, LOOK_SIDE = 30, 160
DEEPEST = 1.15
"""Views whose object reaches farther in depth than this (in half sides of the field's cube) are drawn again."""
RECORD = np.dtype(
    [
        ("name", "S64"),
        ("pictures", "u1", (VIEWS, SIDE, SIDE, 4)),  # straight RGBA
        ("frames", "f4", (VIEWS, 3, 4)),  # object -> field
        ("up", "f4", (VIEWS, 3)),  # the object's up, in the field's frame
        ("nearness", "f4", VIEWS),  # half side of the field's cube over the camera's distance
        ("near", "f2", (NEAR, 3)),
        ("near_distance", "f2", NEAR),
        ("free", "f2", (FREE, 3)),
        ("free_distance", "f2", FREE),
        ("surface", "f2", (SURFACE, 3)),
        ("colour", "u1", (SURFACE, 3)),
    ]
)
"""Points and distances in the object's frame (longest side 1)."""


@dataclass(frozen=True)
class Draw:
    """How a picture is taken; angles in degrees."""

    azimuth: float
    """0: camera on -y (the object's front); positive: towards +x."""
    elevation: float
    roll: float = 0.0
    distance: float = 3.0
    """From the box's centre, in longest sides of the object."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> Draw:
        """Our choice of what people photograph: mostly from a little above, 20 to 60 degree lenses."""
        elevation = np.clip(rng.normal(18, 16), -15, 70)
        return cls(
            rng.uniform(0, 360),
            float(elevation),
            float(rng.normal(0, 2)),
            float(np.exp(rng.uniform(0.4, 1.8))),
        )


def make_record(mesh: ColouredMesh, rng: np.random.Generator) -> NDArray[np.void]:
    """Everything the training needs to know about one object, a scalar of `RECORD`."""
    out = np.zeros((), RECORD)
    out["name"] = mesh.name.encode()[:64]
    normals = corner_normals(mesh)
    for i in range(VIEWS):
        for _ in range(8):
            camera, frame, up, nearness = framed_camera(mesh.vertices, Draw.random(rng))
            if np.abs(mesh.vertices @ frame[1, :3] + frame[1, 3]).max() < DEEPEST:
                break
        out["pictures"][i] = picture(mesh, normals, camera, rng)
        out["frames"][i], out["up"][i], out["nearness"][i] = frame, up, nearness
    looks = Looks(mesh)
    chosen = rng.choice(len(looks.points), SURFACE)
    out["surface"], out["colour"] = looks.points[chosen], np.rint(looks.colours[chosen] * 255)
    spread = np.repeat([0.012, 0.05], NEAR // 2)[:, None]
    near = looks.points[rng.choice(len(looks.points), NEAR)] + spread * rng.normal(size=(NEAR, 3))
    side = np.repeat([[0.62], [0.95]], FREE // 2, 0)
    half = np.minimum(np.abs(mesh.vertices).max(0) * 1.3 + 0.05, side)
    free = rng.uniform(-1, 1, (FREE, 3)) * np.where(side > 0.9, side, half)
    for kind, points in (("near", near), ("free", free)):
        out[kind] = points
        out[f"{kind}_distance"] = looks.signed_distance(out[kind].astype(np.float64))
    return out


def framed_camera(
    vertices: NDArray[np.float32], draw: Draw, side: int = SIDE
) -> tuple[Camera, NDArray[np.float64], NDArray[np.float64], float]:
    """A camera whose crop the object fills, and the field's frame that belongs to it.

    Returns:
        Camera of side x side pixels (principal point off its centre: it is a crop); (3, 4) object -> field; the
        object's up in the field's frame; half side of the field's cube over the camera's distance.
    """
    a, e, r = np.radians([draw.azimuth, draw.elevation, draw.roll])
    back = np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])  # object -> camera
    right = np.array([np.cos(a), np.sin(a), 0.0])
    down = -np.cross(back, right)
    right, down = np.cos(r) * right + np.sin(r) * down, np.cos(r) * down - np.sin(r) * right
    rotation = np.stack([right, down, -back])  # world -> camera, OpenCV
    local = vertices @ rotation.T
    local[:, 2] += draw.distance
    flat = local[:, :2] / local[:, 2:]
    low, high = flat.min(0), flat.max(0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    depth = float(local[:, 2].min() + local[:, 2].max()) / 2
    focal = FILL * side / 2 / half
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.T, draw.distance * back
    cx, cy = side / 2 - focal * middle
    camera = Camera("crop", side, side, focal, focal, cx, cy, pose)
    scale = half * depth / FILL  # half side of the cube, in the object's units
    field = rotation[[0, 2, 1]] * [[1], [1], [-1]] / scale  # x right, y away, z up
    origin = np.array([middle[0] * depth, depth - draw.distance, -middle[1] * depth]) / scale
    frame = np.concatenate([field, -origin[:, None]], 1)
    return camera, frame, field[:, 2] * scale, scale / depth


def corner_normals(mesh: ColouredMesh, crease: float = 0.75) -> NDArray[np.float32]:
    """(F, 3, 3): smooth where faces meet at less than 41 degrees from the mean, flat elsewhere."""
    v, f = mesh.vertices, mesh.faces
    _, same = np.unique(np.rint(v * 4096).astype(np.int32), axis=0, return_inverse=True)
    welded = same.reshape(-1)[f]
    face = np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]])
    total = np.stack([np.bincount(welded.reshape(-1), np.repeat(face[:, k], 3)) for k in range(3)], 1)
    unit = lambda n: n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-12)  # noqa: E731
    flat, smooth = unit(face)[:, None], unit(total)[welded]
    return np.where((flat * smooth).sum(-1, keepdims=True) > crease, smooth, flat).astype(np.float32)


def picture(
    mesh: ColouredMesh, normals: NDArray[np.float32], camera: Camera, rng: np.random.Generator | None
) -> NDArray[np.uint8]:
    """(side, side, 4) straight RGBA, anti-aliased 2 x 2, under random light; unlit where `rng` is None.

    The light's mean over all directions is 1, so that the colours of the object stay those of its surface points.
    """
    fine = camera.resized(camera.width * 2, camera.height * 2)
    raster = rasterize(torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces), fine)
    face, weights = raster.face.numpy(), raster.barycentric.numpy()
    hit = face >= 0
    index, weights = face[hit], weights[hit]
    rgb = mesh.colours(index, weights)
    if rng is not None:
        normal = (weights[..., None] * normals[index]).sum(1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        look = camera.cam_to_world[:3, 2]
        normal *= np.where(normal @ look > 0.15, -1.0, 1.0)[:, None]
        rgb = _lit(rgb, normal, look, rng)
    image = np.zeros((*face.shape, 4), np.float32)
    image[hit, :3], image[hit, 3] = np.clip(rgb, 0, 1), 1
    image = image.reshape(camera.height, 2, camera.width, 2, 4).mean((1, 3))
    image[..., :3] /= np.maximum(image[..., 3:], 1e-3)
    return np.rint(image * 255).astype(np.uint8)


def _lit(
    rgb: NDArray[np.float32], normal: NDArray[np.float32], look: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Ambient, sky, one or two lamps and now and then a highlight."""
    strength = rng.uniform(0, 1)
    lamps = [rng.normal(size=3) + 0.7 * np.array([0, 0, 1]) - 0.7 * look for _ in range(rng.integers(1, 3))]
    light = np.full(len(rgb), 1 - 0.5 * strength)
    light += rng.uniform(0, 0.25) * normal[:, 2]
    for lamp in lamps:
        lamp = lamp / np.linalg.norm(lamp)
        light += strength * (np.maximum(normal @ lamp, 0) - 0.25) * 1.3 / len(lamps)
    tint = 1 + rng.uniform(-0.06, 0.06, 3) * (light[:, None] - 1)
    shine = 0.0
    if rng.random() < 0.25:
        half = lamp - look
        half /= np.linalg.norm(half)
        shine = rng.uniform(0.1, 0.6) * np.maximum(normal @ half, 0)[:, None] ** rng.uniform(8, 60)
    return (rgb * light[:, None] * tint + shine).astype(np.float32)


class Looks:
    """Depth pictures of a mesh from all around, and the surface that they see."""

    def __init__(self, mesh: ColouredMesh) -> None:
        v, f = mesh.vertices, mesh.faces
        facing = np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]])
        self.cameras, self.limits = [], []
        points, colours = [], []
        for camera in _around(LOOKS, LOOK_SIDE):
            raster = rasterize(torch.from_numpy(v), torch.from_numpy(f), camera)
            face, depth = raster.face.numpy(), raster.depth.numpy()
            hit = face >= 0
            where = _unprojected(camera, raster)[hit]
            front = ((where - camera.centre) * facing[face[hit]]).sum(1) < 0
            limit = np.full(face.shape, np.inf, np.float32)
            limit[hit] = np.where(front, depth[hit], 0)
            self.cameras.append(camera)
            self.limits.append(limit)
            points.append(where)
            colours.append(mesh.colours(face[hit], raster.barycentric.numpy()[hit]))
        self.points, self.colours = np.concatenate(points), np.concatenate(colours)
        step = max(1, len(self.points) // 60_000)
        self.tree = cKDTree(self.points[::step])

    def outside(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N, 3) -> (N,): seen by one of the cameras."""
        seen = np.zeros(len(points), bool)
        for camera, limit in zip(self.cameras, self.limits, strict=True):
            left = np.nonzero(~seen)[0]
            pixels, depth = camera.project(points[left])
            column, row = np.clip(pixels.astype(np.int64), 0, camera.width - 1).T
            seen[left] = depth < limit[row, column]
        return seen

    def signed_distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) -> (N,), negative inside."""
        distance = self.tree.query(points)[0]
        return np.where(self.outside(points), distance, -distance)


def _around(count: int, side: int) -> list[Camera]:
    """Cameras on a Fibonacci sphere of radius 4 that see the ball around the unit box."""
    cameras = []
    for i in range(count):
        z = 1 - (2 * i + 1) / count
        a = i * np.pi * (3 - 5**0.5)
        back = np.array([np.sqrt(1 - z * z) * np.cos(a), np.sqrt(1 - z * z) * np.sin(a), z])
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = np.stack([right, np.cross(-back, right), -back], 1), 4 * back
        focal = side / 2 / np.tan(np.arcsin(0.87 / 4))
        cameras.append(Camera(str(i), side, side, focal, focal, side / 2, side / 2, pose))
    return cameras


def _unprojected(camera: Camera, raster: Raster) -> NDArray[np.float64]:
    """(H, W, 3) points that the pixels show."""
    y, x = np.mgrid[: camera.height, : camera.width] + 0.5
    rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], -1)
    depth = np.where(np.isfinite(raster.depth.numpy()), raster.depth.numpy(), 0)[..., None]
    return (rays * depth) @ camera.cam_to_world[:3, :3].T + camera.cam_to_world[:3, 3]
