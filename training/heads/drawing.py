# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of textured meshes some of whose layers are transparent (hair, brows, corneas), with parts and depth.

Opaque faces go through the z-buffer; all fragments of the transparent ones in front of them are sorted by depth and
composited, which is exact for any order and overlap. Samples lie 2 x 2 in each pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from maquette.core.render.rasterize import camera_points, rasterize, spans
from maquette.core.types import Camera
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Paint = Callable[[NDArray[np.int64], Floats, Floats], Floats]
"""(N,) faces, (N, 3) barycentrics, (N, 2) texture coordinates -> (N, 4) straight sRGB and alpha."""
OVERSAMPLE = 2
SOLID = 0.5
"""A surface whose opacity is above this is what depth sees."""


@dataclass(frozen=True)
class Layer:
    """Part of a head that has one texture."""

    vertices: Floats
    """(V, 3)"""
    faces: NDArray[np.int64]
    """(F, 3)"""
    uvs: Floats
    """(F, 3, 2) origin at the bottom left"""
    labels: NDArray[np.uint8]
    """(F,)"""
    paint: Paint
    opaque: bool
    shade: Floats | None = None
    """(V,) share of the sky that a vertex sees; None: all."""
    gloss: float = 0.0


@dataclass(frozen=True)
class Light:
    """Ambient, sky and lamps; their mean over a sphere is about 1."""

    ambient: float
    sky: float
    lamps: Floats
    """(L, 3) unit, towards the lamp"""
    strengths: Floats
    """(L,)"""
    tint: Floats
    """(3,)"""
    shine: float


@dataclass(frozen=True)
class Drawing:
    """What a camera sees."""

    rgba: NDArray[np.uint8]
    """(H, W, 4) straight"""
    labels: NDArray[np.uint8]
    """(H, W) the part with the largest share of the pixel"""
    depth: Floats
    """(H, W) z of the first solid surface, mean of the pixel's samples that have one; NaN where none has"""


def draw(layers: list[Layer], camera: Camera, light: Light, emphasis: Floats) -> Drawing:
    """Draw layers.

    Args:
        emphasis: (parts,) factors of the parts' shares of a pixel where the largest decides its label; 0 is the background.
    """
    fine = camera.resized(camera.width * OVERSAMPLE, camera.height * OVERSAMPLE)
    vertices = np.concatenate([layer.vertices for layer in layers])
    starts = np.cumsum([0, *(len(layer.vertices) for layer in layers)])
    faces = np.concatenate([layer.faces + s for layer, s in zip(layers, starts[:-1], strict=True)])
    owner = np.repeat(np.arange(len(layers)), [len(layer.faces) for layer in layers])
    opaque = np.array([layer.opaque for layer in layers])[owner]
    points = camera_points(torch.from_numpy(vertices), fine)
    normals = vertex_normals(vertices, faces)

    first = rasterize(torch.from_numpy(vertices), torch.from_numpy(faces[opaque]), fine)
    face = first.face.numpy().reshape(-1)
    pixel = np.nonzero(face >= 0)[0]
    number = np.nonzero(opaque)[0][face[pixel]]
    weights = first.barycentric.numpy().reshape(-1, 3)[pixel]
    depth = np.where(face >= 0, first.depth.numpy().reshape(-1), np.inf).astype(np.float32)
    p, z, n, w = fragments(points, faces, np.nonzero(~opaque)[0], fine)
    near = z < depth[p]
    pixel, number = np.concatenate([pixel, p[near]]), np.concatenate([number, n[near]])
    z, weights = (
        np.concatenate([depth[pixel[: len(pixel) - near.sum()]], z[near]]),
        np.concatenate([weights, w[near]]),
    )

    rgba = painted(layers, owner, number, weights)
    label = np.concatenate([layer.labels for layer in layers])[number]
    position = (weights[..., None] * vertices[faces[number]]).sum(1)
    normal = (weights[..., None] * normals[faces[number]]).sum(1)
    shade = np.concatenate(
        [np.ones(len(v.vertices), np.float32) if v.shade is None else v.shade for v in layers]
    )
    gloss = np.array([layer.gloss for layer in layers], np.float32)[owner[number]]
    seen = (weights * shade[faces[number]]).sum(1)
    rgba[:, :3] = lit(rgba[:, :3], normal, position - camera.centre, seen, gloss, light)
    return composite(pixel, z, rgba, label, (fine.height, fine.width), emphasis)


def painted(
    layers: list[Layer], owner: NDArray[np.int64], number: NDArray[np.int64], weights: Floats
) -> Floats:
    """(N, 4) colours of fragments."""
    rgba = np.empty((len(number), 4), np.float32)
    first = 0
    for i, layer in enumerate(layers):
        mine = np.nonzero(owner[number] == i)[0]
        local = number[mine] - first
        uv = (weights[mine][..., None] * layer.uvs[local]).sum(1)
        rgba[mine] = layer.paint(local, weights[mine], uv)
        first += len(layer.faces)
    return rgba


def fragments(
    points: torch.Tensor, faces: NDArray[np.int64], chosen: NDArray[np.int64], camera: Camera
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], Floats]:
    """Every pixel that every chosen face covers: (N,) pixel, (N,) depth, (N,) face, (N, 3) barycentrics."""
    nothing = (
        np.zeros(0, np.int64),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        np.zeros((0, 3), np.float32),
    )
    if not len(chosen):
        return nothing
    corners = torch.from_numpy(faces[chosen])
    inverse = 1 / points[:, 2].clamp(min=1e-3)
    focal, middle = points.new_tensor([camera.fx, camera.fy]), points.new_tensor([camera.cx, camera.cy])
    screen = points[:, :2] * inverse[:, None] * focal + middle
    found = list(spans(screen, inverse, corners, camera.width, camera.height))
    if not found:  # all of them lie beside the picture
        return nothing
    pixel, owner = (torch.cat([part[k] for part in found]).numpy() for k in (0, 2))
    matrices = points[corners].double().numpy().transpose(0, 2, 1)  # columns are the corners
    thin = np.abs(np.linalg.det(matrices)) < 1e-12
    matrices[thin] = np.eye(3)
    to_weights = np.linalg.inv(matrices).astype(np.float32)
    ray = np.stack(
        [
            (pixel % camera.width + 0.5 - camera.cx) / camera.fx,
            (pixel // camera.width + 0.5 - camera.cy) / camera.fy,
        ],
        1,
    ).astype(np.float32)
    weights = np.einsum(
        "nij,nj->ni", to_weights[owner], np.pad(ray, ((0, 0), (0, 1)), constant_values=1)
    ).clip(0)
    total = weights.sum(1)
    keep = ~thin[owner] & (total > 0)
    pixel, owner, weights, total = pixel[keep], owner[keep], weights[keep], total[keep]
    return pixel, 1 / total, chosen[owner], weights / total[:, None]


def composite(
    pixel: NDArray[np.int64],
    z: Floats,
    rgba: Floats,
    label: NDArray[np.uint8],
    size: tuple[int, int],
    emphasis: Floats,
) -> Drawing:
    """Front to back, one rank of depth at a time, then the mean of each pixel's samples."""
    order = np.lexsort((z, pixel))
    pixel, z, rgba, label = pixel[order], z[order], rgba[order], label[order]
    fresh = np.r_[True, pixel[1:] != pixel[:-1]]
    start = np.nonzero(fresh)[0]
    rank = np.arange(len(pixel)) - np.repeat(start, np.diff(np.r_[start, len(pixel)]))
    count = size[0] * size[1]
    through = np.ones(count, np.float32)
    colour, share = np.zeros((count, 3), np.float32), np.zeros((count, len(emphasis)), np.float32)
    depth = np.full(count, np.nan, np.float32)
    for k in range(int(rank.max(initial=-1)) + 1):
        row = np.nonzero(rank == k)[0]
        at = pixel[row]
        weight = through[at] * rgba[row, 3]
        colour[at] += weight[:, None] * rgba[row, :3]
        share[at, label[row]] += weight
        new = np.isnan(depth[at]) & (rgba[row, 3] > SOLID)
        depth[at[new]] = z[row[new]]
        through[at] -= weight
    share[:, 0] += through
    blocks = (size[0] // OVERSAMPLE, OVERSAMPLE, size[1] // OVERSAMPLE, OVERSAMPLE)
    colour = colour.reshape(*blocks, 3).mean((1, 3))
    alpha = 1 - through.reshape(blocks).mean((1, 3))
    share = share.reshape(*blocks, -1).mean((1, 3)) * emphasis
    known = ~np.isnan(depth).reshape(blocks)
    total, hits = np.where(known, depth.reshape(blocks), 0).sum((1, 3)), known.sum((1, 3))
    rgb = colour / np.maximum(alpha[..., None], 1e-3)
    picture = np.concatenate([rgb, alpha[..., None]], -1).clip(0, 1)
    mean = np.where(hits > 0, total / np.maximum(hits, 1), np.nan)
    return Drawing(
        np.rint(picture * 255).astype(np.uint8), share.argmax(-1).astype(np.uint8), mean.astype(np.float32)
    )


def lit(
    rgb: Floats, normal: Floats, ray: NDArray[np.float64], seen: Floats, gloss: Floats, light: Light
) -> Floats:
    """Colours (N, 3) under a light; normals turn towards the camera."""
    ray = (ray / np.linalg.norm(ray, axis=1, keepdims=True)).astype(np.float32)
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    normal = normal * np.where((normal * ray).sum(1) > 0, -1, 1)[:, None].astype(np.float32)
    amount = (light.ambient + light.sky * normal[:, 1]) * seen
    shine = np.zeros(len(rgb), np.float32)
    for lamp, strength in zip(light.lamps, light.strengths, strict=True):
        # Wrapped a little round the edge, as light goes into skin and hair.
        amount = amount + strength * ((normal @ lamp + 0.2) / 1.2).clip(0) * (0.4 + 0.6 * seen)
        half = lamp - ray
        half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
        shine += strength * (normal * half).sum(1).clip(0) ** 24
    tint = 1 + light.tint * (amount[:, None] - 1)
    return (rgb * amount[:, None] * tint + (light.shine * gloss * shine * seen)[:, None]).astype(np.float32)


def vertex_normals(vertices: Floats, faces: NDArray[np.int64]) -> Floats:
    """(V, 3), area-weighted, not normalised."""
    face = np.cross(
        vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]]
    )
    index, values = faces.reshape(-1), np.repeat(face, 3, 0)
    sums = [np.bincount(index, values[:, k], len(vertices)) for k in range(3)]
    return np.stack(sums, 1).astype(np.float32)


def bilinear(texture: NDArray[np.uint8], uv: Floats) -> Floats:
    """(N, C) 0..1 of a texture (H, W, C) at (N, 2), clamped at its border."""
    height, width = texture.shape[:2]
    x = (uv[:, 0] * width - 0.5).clip(0, width - 1.001)
    y = ((1 - uv[:, 1]) * height - 0.5).clip(0, height - 1.001)
    i, j = x.astype(np.int64), y.astype(np.int64)
    fx, fy = (x - i)[:, None].astype(np.float32), (y - j)[:, None].astype(np.float32)
    flat = texture.reshape(-1, texture.shape[2])
    at = j * width + i
    top = flat[at] * (1 - fx) + flat[at + 1] * fx
    return (top * (1 - fy) + (flat[at + width] * (1 - fx) + flat[at + width + 1] * fx) * fy) / np.float32(255)
