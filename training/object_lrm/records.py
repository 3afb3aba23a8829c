# SPDX-License-Identifier: GPL-3.0-or-later
"""One training record per object: lit pictures, and what lies behind each of their pixels.

The truth of a picture is two layers: where its rays first meet the object and where they leave it for good, the latter
with the colour seen from behind. Both come straight from the z-buffer, so open and overlapping meshes (the packs are
made of such) are as good as closed ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from maquette.core.models.lrm.object_lrm import FILL
from maquette.core.render.rasterize import rasterize
from maquette.core.types import Camera
from numpy.typing import NDArray

from .objects import ColouredMesh

VIEWS, SIDE = 6, 96
"""Pictures of an object, and their pixels: twice as fine as the network's (a larger one can learn from the same files)."""
DEEPEST = 1.15
"""Views whose object reaches farther in depth than this (in half sides of the field's cube) are drawn again."""
RECORD = np.dtype(
    [
        ("name", "S128"),
        ("pictures", "u1", (VIEWS, SIDE, SIDE, 4)),  # straight RGBA
        ("front", "f2", (VIEWS, SIDE, SIDE)),  # y of the field's frame; NaN beside the object
        ("back", "f2", (VIEWS, SIDE, SIDE)),
        ("behind", "u1", (VIEWS, SIDE, SIDE, 3)),  # sRGB of the back layer
        ("up", "f4", (VIEWS, 3)),  # the object's up, in the field's frame
        ("nearness", "f4", VIEWS),  # half side of the field's cube over the camera's distance
    ]
)


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
    out["name"] = mesh.name.encode()[-128:]
    normals = corner_normals(mesh)
    for i in range(VIEWS):
        for _ in range(8):
            camera, frame, up, nearness = framed_camera(mesh.vertices, Draw.random(rng))
            if np.abs(mesh.vertices @ frame[1, :3] + frame[1, 3]).max() < DEEPEST:
                break
        out["pictures"][i] = picture(mesh, normals, camera, rng)
        per_unit = float(np.linalg.norm(frame[0, :3]))
        front, back, behind = layers(mesh, camera)
        out["front"][i], out["back"][i] = front * per_unit - 1 / nearness, back * per_unit - 1 / nearness
        out["behind"][i] = np.rint(behind * 255)
        out["up"][i], out["nearness"][i] = up, nearness
    return out


def layers(
    mesh: ColouredMesh, camera: Camera
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Depths (H, W) of the first and the last surface on each pixel's ray, NaN beside the object, and the last's colour.

    The last one is the first of the mesh turned inside out: 1/z' = c - 1/z keeps pixels and planes and reverses the order.
    """
    local = (mesh.vertices.astype(np.float64) - camera.centre) @ camera.cam_to_world[:3, :3]
    own = Camera("", camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, np.eye(4))
    faces = torch.from_numpy(mesh.faces)
    first = rasterize(torch.from_numpy(local.astype(np.float32)), faces, own)
    hit = first.face.numpy() >= 0
    z = local[:, 2:]
    total = 1 / z.min() + 1 / z.max()
    turned = 1 / (total - 1 / z)
    last = rasterize(torch.from_numpy((local * turned / z).astype(np.float32)), faces, own)
    reached, face = last.face.numpy() >= 0, last.face.numpy()
    depth = np.where(hit, first.depth.numpy(), np.nan).astype(np.float32)
    weights = last.barycentric.numpy()[reached] * (z / turned)[mesh.faces[face[reached]], 0]
    weights /= weights.sum(1, keepdims=True)  # the turned mesh's weights -> those of the mesh
    far, colour = depth.copy(), np.zeros((*hit.shape, 3), np.float32)
    far[reached] = 1 / (total - 1 / last.depth.numpy()[reached])
    colour[reached] = mesh.colours(face[reached], weights.astype(np.float32))
    return depth, np.where(hit, np.fmax(far, depth), np.nan), np.clip(colour, 0, 1)


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
