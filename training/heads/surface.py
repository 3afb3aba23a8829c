# SPDX-License-Identifier: GPL-3.0-or-later
"""What a generator's field should say at points: raw density and colour, from a head's layers without drawing it.

The surface is sampled, each sample knows its normal and its lit colour; a point takes both from the nearest sample. What
lies between scalp and hair is filled, as are mouth and eye sockets behind what can be seen, so that heads come out whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from maquette.core.models.eg3d.cameras import FOCAL, camera_of, intrinsics, label_of
from maquette.core.models.heads.faces import orbit_pose
from maquette.core.models.heads.parser import PARTS
from maquette.core.render.rasterize import camera_points, rasterize
from maquette.core.types import Camera
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .drawing import Layer, Light, lit, vertex_normals

Floats = NDArray[np.float32]
BACKGROUND, SKIN, HAIR, EYES, BROWS, NOSE, MOUTH, EARS, NECK = range(len(PARTS))
INNER, SOCKETS = len(PARTS), len(PARTS) + 1
"""Mouth behind the lips; eye sockets, which bound nothing."""
SAMPLES, POINTS = 30000, 12000
DENSER = np.float32([0.5, 1.0, 1.2, 1.0, 4.0, 3.0, 5.0, 2.0, 0.6, 0.5, 0.0])
"""Samples per area of each part, relative."""
LEVEL, STEEP, LEAST, MOST = 10.0, 25000.0, -30.0, 400.0
"""Raw density on the surface, its slope per unit of depth, and its limits: light reaches 0.009 units (3 mm) in."""
FACE, FLAT = 0.08, 0.35
"""From this z on points in a face take the colour of the sample before them: depth counts so much of width. What shines through
a lid must not be the eye.
"""
STRAND = 0.008
"""Half the thickness of hair around its strips."""
HALF, AROUND = 0.5, 0.1
"""Of the box; how far beyond it rays still ask."""
EYE = np.float32([0.083, 0.098, 0.2])
"""About where the left one is."""
LOOKED_AT, ROUND_EYES = 0.35, 0.045
"""Share of the points near the surface that lie at eyes (to this distance from their middle) and mouth: a hundredth of a head, of which people
look at little else. Evenly strewn, 15 of 3,072 points told what an eye looks like."""
SIDES = (
    (0, 0, 288), (-30, 0, 288), (30, 0, 288), (0, 25, 288), (0, -32, 288), (-68, 5, 224), (68, 5, 224), (-115, 5, 160),
    (115, 5, 160), (180, 5, 160), (-40, 60, 160), (140, 60, 160),
)  # fmt: skip
"""Yaw, elevation and pixels of the cameras that say what can be seen; faces have the finest lines."""
BEHIND = 0.0035
"""How far behind the surface in the pixel a point may lie: half a pixel's slope; lids are thicker."""
MIDDLE = np.float32([0.0, 0.12, -0.03])
"""Of a skull; hair is filled towards it."""


@dataclass(frozen=True)
class Samples:
    """Surface of a head."""

    points: Floats
    """(N, 3)"""
    normals: Floats
    """(N, 3) unit, outwards"""
    colours: Floats
    """(N, 3) lit sRGB"""
    labels: NDArray[np.uint8]
    """(N,) parts; cloth is background."""


@dataclass(frozen=True)
class Part:
    """Samples of one layer."""

    number: int
    """Of the layer."""
    face: NDArray[np.int64]
    """(N,)"""
    weights: Floats
    """(N, 3)"""
    points: Floats
    """(N, 3)"""
    normals: Floats
    """(N, 3) turned outwards"""

    def colours(self, layer: Layer, light: Light) -> Floats:
        """(N, 4) lit sRGB and alpha."""
        uv = (self.weights[..., None] * layer.uvs[self.face]).sum(1)
        rgba = layer.paint(self.face, self.weights, uv).astype(np.float32)
        shade = (
            np.ones(len(self.face), np.float32)
            if layer.shade is None
            else (self.weights * layer.shade[layer.faces[self.face]]).sum(1)
        )
        gloss = np.full(len(self.face), layer.gloss, np.float32)
        rgb = lit(rgba[:, :3], self.normals, -self.normals, shade, gloss, light)
        return np.concatenate([rgb, rgba[:, 3:]], 1)


class Surface:
    """Where a head's samples lie: what can be seen; what clothes, hair, lids or lips cover is left out.

    Args:
        layers: of a head; other colours of the same layers may be asked for afterwards.
        inner: (F,) faces of the first layer in the mouth and the eye sockets.
        rng: places.
    """

    def __init__(self, layers: list[Layer], inner: NDArray[np.bool_], rng: np.random.Generator) -> None:
        sockets = inner & (layers[0].labels == EYES)
        labels = np.where(sockets, SOCKETS, np.where(inner, INNER, layers[0].labels)).astype(np.uint8)
        first = replace(layers[0], labels=labels)
        self.sight = Sight(layers)
        self.faces = [layer.faces for layer in layers]
        self.parts: list[tuple[Part, NDArray[np.bool_]]] = []
        self.brows: Part | None = None
        marks = []
        for number, layer in enumerate([first, *layers[1:]]):
            kind = int(layer.labels[0]) if (layer.labels == layer.labels[0]).all() else -1
            count = {HAIR: 16000, EYES: 6000, BROWS: 2500, BACKGROUND: 5000}.get(kind, SAMPLES)
            face, weights, points, normals = scattered(layer, count, rng)
            if not len(face):
                continue
            if kind in (HAIR, BROWS):  # strips have two sides; the outer one is seen
                normals *= np.where((normals * (points - MIDDLE)).sum(1) > 0, 1, -1)[:, None].astype(
                    np.float32
                )
            if kind == EYES:
                normals = from_eyes(layer.vertices, points)
            part = Part(number, face, weights, points, normals)
            if kind == BROWS:
                self.brows = part
                continue
            uv = (weights[..., None] * layer.uvs[face]).sum(1)
            solid = layer.paint(face, weights, uv)[:, 3] > 0.5
            kept = solid & ((kind != EYES) | (normals[:, 2] > 0.35))
            self.parts.append((part, kept))
            marks.append(
                (points[kept], normals[kept], layer.labels[face][kept], np.full(kept.sum(), number == 0))
            )
        points, normals, labels, skin = (np.concatenate(values) for values in zip(*marks, strict=True))
        self.under: tuple[NDArray[np.bool_], NDArray[np.int64], Floats] | None = None
        if self.brows is not None:  # painted on the skin
            distance, near = cKDTree(self.brows.points).query(points, distance_upper_bound=0.012)
            hit = np.isfinite(distance) & np.isin(labels, (SKIN, NOSE))
            share = np.clip(2.2 - distance[hit] / 0.0055, 0, 1).astype(np.float32)
            self.under = hit, near[hit], share
        self.kept = ~hidden(points, labels, skin, self.sight.sees(points, normals))
        self.points, self.normals = (
            np.ascontiguousarray(v[self.kept], np.float32) for v in (points, normals)
        )
        self.labels = labels[self.kept]

    def shifts(self, vertices: list[Floats]) -> Floats:
        """(N, 3) from each sample to its place on other vertices of the same layers."""
        there = [
            (part.weights[..., None] * vertices[part.number][self.faces[part.number][part.face]]).sum(1)[kept]
            for part, kept in self.parts
        ]
        return np.concatenate(there)[self.kept].astype(np.float32) - self.points

    def samples(self, layers: list[Layer], light: Light) -> Samples:
        """With the colours of these layers under a light."""
        colours = np.concatenate(
            [part.colours(layers[part.number], light)[kept, :3] for part, kept in self.parts]
        )
        if self.brows is not None and self.under is not None:
            hit, near, share = self.under
            brows = self.brows.colours(layers[self.brows.number], light)
            cover = share[:, None] * brows[near, 3:]
            colours[hit] += cover * (brows[near, :3] - colours[hit])
        colours = np.ascontiguousarray(colours[self.kept].clip(0, 1), np.float32)
        return Samples(self.points, self.normals, colours, self.labels)


def from_eye(points: Floats) -> Floats:
    """(N,) distances of points (N, 3) from the middle of the nearer eye."""
    folded = np.abs(points[:, :1])
    return np.asarray(np.linalg.norm(np.concatenate([folded, points[:, 1:]], 1) - EYE, axis=1), np.float32)


def from_eyes(vertices: Floats, points: Floats) -> Floats:
    """(N, 3) unit directions of points (N, 3) from the middle of their eye, of one or two balls (V, 3)."""
    out = np.zeros_like(points)
    for sign in (-1, 1):
        ball, mine = vertices[vertices[:, 0] * sign > 0], points[:, 0] * sign > 0
        if len(ball):
            out[mine] = points[mine] - (ball.min(0) + ball.max(0)) / 2
    return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9), np.float32)


def scattered(
    layer: Layer, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Faces (N,), barycentrics (N, 3), points (N, 3) and unit normals (N, 3) of random places in the box; N = count or 0."""
    corners = layer.vertices[layer.faces]  # (F, 3, 3)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.mean(1)
    inside = (np.abs(middle) < HALF + 0.03).all(1)
    near_eyes = np.exp(-((from_eye(middle) / 0.055) ** 2))
    dense = DENSER[layer.labels] * (1 + 9 * near_eyes + (middle[:, 2] > 0.1))
    cumulative = np.cumsum(np.linalg.norm(normal, axis=1) * inside * dense)
    if cumulative[-1] <= 0:
        count = 0
    face = np.searchsorted(cumulative, rng.random(count) * cumulative[-1]).clip(0, len(cumulative) - 1)
    u, v = rng.random((2, count), np.float32)
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    weights = np.stack([1 - u - v, u, v], 1).astype(np.float32)
    points = (weights[..., None] * corners[face]).sum(1)
    smooth = (weights[..., None] * vertex_normals(layer.vertices, layer.faces)[layer.faces[face]]).sum(1)
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-9)
    return face, weights, points, smooth


def hidden(
    points: Floats,
    labels: NDArray[np.uint8],
    skin: NDArray[np.bool_],
    seen: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """(N,) which samples cannot be seen from outside.

    Args:
        points: (N, 3).
        labels: (N,).
        skin: (N,) of the first layer.
        seen: (N,) `Sight.sees`.
    """
    hair, cloth = (labels == HAIR) & ~skin, (labels == BACKGROUND) & ~skin
    out = ~seen & ~hair & ~cloth
    if cloth.any():
        distance = cKDTree(points[cloth]).query(points, distance_upper_bound=0.02)[0]
        out |= np.isfinite(distance) & skin & np.isin(labels, (SKIN, NECK))
    if hair.any():
        out |= skin & beneath(points, points[hair], 0.002)
    return out


class Sight:
    """What cameras around a head see of its solid layers: skin, and the eyeballs without their corneas."""

    def __init__(self, layers: list[Layer]) -> None:
        meshes = [(layers[0].vertices, layers[0].faces)]
        for layer in layers[1:]:
            if (layer.labels == EYES).all():
                middle = np.full((len(layer.faces), 3), 1 / 3, np.float32)
                alpha = layer.paint(np.arange(len(layer.faces)), middle, layer.uvs.mean(1))[:, 3]
                meshes.append((layer.vertices, layer.faces[alpha > 0.5]))
        starts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
        vertices = torch.from_numpy(np.concatenate([v for v, _ in meshes]))
        faces = torch.from_numpy(
            np.concatenate([f + n for (_, f), n in zip(meshes, starts[:-1], strict=True)])
        )
        self.views = []
        for yaw, elevation, side in SIDES:
            label = label_of(orbit_pose(yaw, elevation), intrinsics(FOCAL * 0.68))
            camera = camera_of(label, side)
            self.views.append((camera, rasterize(vertices, faces, camera).depth.numpy()))

    def depths(self, points: Floats) -> Iterator[tuple[Camera, Floats, Floats]]:
        """Per camera: z of points (N, 3) and of the surface in their pixels, -inf outside of the picture."""
        at = torch.from_numpy(points)
        for camera, depth in self.views:
            x, y, z = camera_points(at, camera).numpy().T
            column = (x / z * camera.fx + camera.cx).astype(np.int64)
            row = (y / z * camera.fy + camera.cy).astype(np.int64)
            height, width = depth.shape
            inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
            front = depth[row.clip(0, height - 1), column.clip(0, width - 1)]
            yield camera, z, np.where(inside, front, -np.inf).astype(np.float32)

    def sees(self, points: Floats, normals: Floats) -> NDArray[np.bool_]:
        """(N,) whether points (N, 3) of the surface are seen, and not from behind: lids cover eyeballs, lips the mouth."""
        out = np.zeros(len(points), np.bool_)
        for camera, z, front in self.depths(points):
            towards = camera.centre.astype(np.float32) - points
            slant = (normals * towards).sum(1) / np.linalg.norm(towards, axis=1)
            out |= (z < front + BEHIND) & (slant > 0.1)
        return out

    def outside(self, points: Floats) -> NDArray[np.bool_]:
        """(N,) whether points (N, 3) lie before the surface for some camera: what no camera looks into counts as solid."""
        out = np.zeros(len(points), np.bool_)
        for _, z, front in self.depths(points):
            out |= z < front
        return out


def polar(points: Floats) -> tuple[Floats, Floats]:
    """Unit directions (N, 3) and distances (N,) from the middle of the skull."""
    offset = points - MIDDLE
    radius = np.linalg.norm(offset, axis=1) + 1e-6
    return offset / radius[:, None], radius


def beneath(points: Floats, hair: Floats, gap: float) -> NDArray[np.bool_]:
    """(P,) whether hair (H, 3) lies beyond a point, seen from the middle of the skull, and not far from it."""
    directions, radius = polar(hair)
    towards, own = polar(points)
    angle, near = cKDTree(directions).query(towards, 4, distance_upper_bound=0.03)
    beyond = np.append(radius, 0.0)[near]
    beyond = np.where(np.isfinite(angle), beyond, 0.0).max(1)
    return np.asarray((beyond > own + gap) & (beyond < own + 0.13))


@dataclass(frozen=True)
class Targets:
    """What the field should say at points of one head."""

    points: Floats
    """(P, 3)"""
    density: Floats
    """(P,) raw"""
    colours: Floats
    """(P, 3) sRGB"""
    coloured: Floats
    """(P,) weight of the colour"""
    nearest: NDArray[np.int64]
    """(P,) the sample that a point takes its colour from"""


def targets(samples: Samples, sight: Sight, rng: np.random.Generator, count: int = POINTS) -> Targets:
    """Most points next to the surface, `LOOKED_AT` of those at eyes and mouth, an eighth a little off it, a quarter anywhere in and around
    the box."""
    near, off = count * 5 // 8, count // 8
    choice = rng.integers(len(samples.points), size=near + off)
    looked_at = np.nonzero((from_eye(samples.points) < ROUND_EYES) | (samples.labels == MOUTH))[0]
    if len(looked_at):
        more = rng.random(near + off) < LOOKED_AT
        choice[more] = looked_at[rng.integers(len(looked_at), size=more.sum())]
    step = np.concatenate([rng.normal(0, 0.006, near), rng.normal(0, 0.035, off)]).astype(np.float32)
    side = rng.normal(0, 0.003, (near + off, 3)).astype(np.float32)
    points = samples.points[choice] + samples.normals[choice] * step[:, None] + side
    free = rng.uniform(-HALF - AROUND, HALF + AROUND, (count - len(points), 3)).astype(np.float32)
    points = np.concatenate([points, free])
    return Targets(points, *answers(samples, sight, points))


def answers(
    samples: Samples, sight: Sight, points: Floats
) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """Raw density (P,), colour (P, 3), the colour's weight (P,) and the sample it is of (P,), at points (P, 3)."""
    distance, nearest = cKDTree(samples.points).query(points)
    label = samples.labels[nearest]
    signed = ((points - samples.points[nearest]) * samples.normals[nearest]).sum(1)
    # Far from any sample the plane through it says little: the distance does.
    signed = np.where(distance > 0.03, np.sign(signed) * distance, signed)
    # Next to lids, lips and nostrils planes of the nearest samples contradict each other; sight does not.
    outside = sight.outside(points)
    signed = np.where(outside, np.abs(signed), -np.maximum(np.abs(signed), 0.7 * distance))
    behind = ~outside & (points[:, 2] > FACE) & (label != HAIR)
    if behind.any():
        front = np.nonzero(samples.points[:, 2] > FACE - 0.05)[0]
        flat = np.float32([1, 1, FLAT])
        nearest[behind] = front[cKDTree(samples.points[front] * flat).query(points[behind] * flat)[1]]
    signed = np.where(label == HAIR, distance - STRAND, signed)
    strips = samples.points[samples.labels == HAIR]
    if len(strips) > 2000:  # what lies between hair and scalp is filled
        under = beneath(points, strips, 0.004)
        signed = np.where(under, -np.maximum(np.abs(signed), 0.01), signed)
    signed = np.where((np.abs(points) > HALF - 0.004).any(1), 0.1, signed)
    density = (LEVEL - STEEP * signed).clip(LEAST, MOST)
    coloured = np.exp(-((distance / 0.025) ** 2)) + 0.01
    return density.astype(np.float32), samples.colours[nearest], coloured.astype(np.float32), nearest
