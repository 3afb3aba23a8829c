# SPDX-License-Identifier: GPL-3.0-or-later
"""Random heads: a vector of traits, and the textured layers that it stands for in EG3D's frame.

EG3D's frame: y up, the face towards +z, one unit 0.37 m; the five landmarks of a head are brought to those of the mean
face (Deep3DFaceRecon's, times 0.27) by a shift and one scale, as portraits are aligned for EG3D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from maquette.core.models.eg3d.cameras import STANDARD_LANDMARKS
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .drawing import Layer, Paint, bilinear, vertex_normals
from .looks import BALD, Look, Textures, random_look
from .makehuman import BACKGROUND, BROWS, EYEBROWS, EYES, HAIR, HAIRS, SKIN, MakeHuman

Floats = NDArray[np.float32]
Place = Callable[[NDArray[Any]], Floats]
"""(N, 3) points of a mesh's own frame -> EG3D's."""
UNITS_PER_DM = 0.27
SHIFT = np.array([0.0, 0.006, 0.161])
"""Of the mean face's origin in EG3D's frame."""
SPREAD = 0.24
"""Standard deviation of the coefficients of shape."""


@dataclass(frozen=True)
class Traits:
    """What makes one head; the same traits always give the same head."""

    macros: Floats
    """(7,), see `makehuman.MACROS`."""
    axes: Floats
    """One per axis of shape, -1..1."""
    expression: Floats
    """One per unit, 0..1."""
    gaze: Floats
    """(2,) radians: to the head's left, up."""
    look: Look

    def vector(self) -> Floats:
        """All of it as float32, the look last."""
        return np.concatenate([self.macros, self.axes, self.expression, self.gaze, self.look.vector()])


@dataclass(frozen=True)
class Cloth:
    """The lower part of a bust again, a little outside of it, and a skirt that hangs from its rim."""

    rows: NDArray[np.int64]
    """(N,) vertices of the head that it follows."""
    faces: NDArray[np.int64]
    """(F, 3) among 2 N vertices: those on the body, and the same far below."""
    height: Floats
    """(N,) decimetres; a neckline cuts where it is this."""

    @classmethod
    def on(cls, base: Floats, faces: NDArray[np.int64], height: Floats) -> Cloth:
        """From faces (F, 3) of a base mesh (V, 3) and the height (V,) of its vertices; the rim is the lower half's."""
        rows, local = np.unique(faces, return_inverse=True)
        local = local.reshape(-1, 3)
        edges = np.concatenate([local[:, [0, 1]], local[:, [1, 2]], local[:, [2, 0]]])
        _, first, number = np.unique(np.sort(edges, 1), axis=0, return_index=True, return_counts=True)
        rim = edges[first[number == 1]]
        y = base[rows, 1]
        a, b = rim[(y[rim] < (y.min() + y.max()) / 2).all(1)].T
        n = len(rows)
        skirt = np.concatenate([np.stack([b, a, a + n], 1), np.stack([b, a + n, b + n], 1)])
        return cls(rows, np.concatenate([local, skirt]), height[rows].astype(np.float32))

    def layer(
        self,
        head: Floats,
        normals: Floats,
        place: Place,
        colour: tuple[float, float, float],
        neckline: float,
        shade: Floats,
    ) -> Layer:
        """The layer for a morphed head (V, 3) with normals (V, 3); it counts as background."""
        out = normals[self.rows] / np.maximum(np.linalg.norm(normals[self.rows], axis=1, keepdims=True), 1e-9)
        vertices = np.concatenate([head[self.rows] + 0.035 * out, head[self.rows] - np.float32([0, 3, 0])])
        inside = np.concatenate([neckline - self.height, np.ones(len(self.rows), np.float32)])

        paint = partial(self.paint, inside, colour)
        labels = np.full(len(self.faces), BACKGROUND, np.uint8)
        uvs = np.zeros((len(self.faces), 3, 2), np.float32)
        return Layer(place(vertices), self.faces, uvs, labels, paint, False, np.tile(shade[self.rows], 2))

    def paint(
        self,
        inside: Floats,
        colour: tuple[float, float, float],
        face: NDArray[np.int64],
        weights: Floats,
        uv: Floats,
    ) -> Floats:
        """One colour below the neckline; `inside` (2 N,): how far a vertex is below it."""
        alpha = (0.5 + 30 * (weights * inside[self.faces[face]]).sum(1)).clip(0, 1)
        return np.concatenate([np.broadcast_to(np.float32(colour), (len(face), 3)), alpha[:, None]], 1)


class Wardrobe:
    """The pack, ready to make heads."""

    def __init__(self, folder: Path) -> None:
        self.body = MakeHuman(folder)
        self.textures = Textures(folder)

    @cached_property
    def scalp(self) -> Floats:
        """(V,) 0..1 where hair grows: where the skins show it, shaved, on the skull."""
        body, count = self.body, len(self.body.base)
        corner, uv = body.faces.reshape(-1), body.uvs.reshape(-1, 2)
        on_skin = np.repeat(body.labels == SKIN, 3)
        share = np.maximum(np.bincount(corner[on_skin], minlength=count), 1)
        dark = np.zeros(count)
        front = (body.base[:, 1] < 7.1) & (body.base[:, 2] > 1.1)
        for skin in self.textures.skins:
            bright = bilinear(skin, uv[on_skin]).mean(1)
            mean = np.bincount(corner[on_skin], bright, count) / share
            dark += 1 - mean / np.median(mean[front & (mean > 0)])
        grown = ((dark / len(self.textures.skins) - 0.05) / 0.15).clip(0, 1)
        _, y, z = body.base.T
        grown[(y < 6.75) | ((z > 0.85) & (y < 7.75))] = 0  # neck, face
        grown[np.bincount(corner[on_skin], minlength=count) == 0] = 0
        faces = body.faces
        for _ in range(2):
            total = np.bincount(corner, np.repeat(grown[faces].mean(1), 3), count)
            grown = total / np.maximum(np.bincount(corner, minlength=count), 1)
        return grown.astype(np.float32)

    @cached_property
    def cloth(self) -> Cloth:
        """What is worn on MakeHuman's bust."""
        base = self.body.base
        low = self.body.faces[(base[self.body.faces][..., 1] < 6.5).all(1) & (self.body.islands == 2)]
        return Cloth.on(base, low, base @ np.float32([0, 1, -0.25]) + 0.1 * base[:, 0] ** 2)

    def traits(self, rng: np.random.Generator, neutral: bool = False) -> Traits:
        """A random head; `neutral`: without expression, looking ahead."""
        races = rng.dirichlet([0.35, 0.35, 0.35])
        gender = rng.beta(0.5, 0.5)
        macros = np.r_[races, gender, rng.beta(0.9, 1.3), rng.beta(3, 3), rng.beta(2.5, 3)].astype(np.float32)
        plain, lopsided = len(self.body.axes), len(self.body.lopsided)
        axes = rng.normal(0, SPREAD, plain + lopsided).clip(-0.9, 0.9)
        single = np.array([not axis.negative for axis in (*self.body.axes, *self.body.lopsided)])
        axes[single] = np.abs(axes[single]) * (rng.random(single.sum()) < 0.3)
        axes[plain:] *= 0.4
        expression = np.zeros(len(self.body.units))
        gaze = np.zeros(2)
        if not neutral:
            expression = self.expression(rng)
            gaze = rng.normal(0, [0.12, 0.07]).clip(-0.3, 0.3)
        look = random_look(macros, self.textures, rng)
        return Traits(
            macros, axes.astype(np.float32), expression.astype(np.float32), gaze.astype(np.float32), look
        )

    def expression(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """A few units at once, both sides mostly alike; mouth and lids most often."""
        out = np.zeros(len(self.body.units))
        number = {name: i for i, name in enumerate(self.body.units)}
        for name in rng.choice(self.body.units, int(rng.integers(0, 5)), replace=False):
            value = rng.uniform(0.1, 0.8)
            out[number[name]] = value
            for one, two in (("left", "right"), ("right", "left")):
                if one in name and rng.random() < 0.85:
                    out[number[name.replace(one, two)]] = value
        if rng.random() < 0.35:
            out[number["mouth-corner-puller"]] = rng.uniform(0.2, 1)
        if rng.random() < 0.2:
            out[number["mouth-open"]] = rng.uniform(0.1, 0.7)
        for side in ("left", "right"):  # open lids stay open enough to show an eye
            out[number[f"eye-{side}-closure"]] *= 1.0 if rng.random() < 0.15 else 0.4
        return out

    def shape(self, traits: Traits) -> Floats:
        """(V, 3) vertices with helpers, MakeHuman's frame."""
        return self.body.shape(traits.macros, traits.axes, traits.expression)

    def layers(self, traits: Traits) -> list[Layer]:
        """Skin, eyes, brows, clothes and hair, in EG3D's frame."""
        head = self.shape(traits)
        return self.dressed(head, traits.look, traits.gaze, head_frame(self.body.landmarks(head)))

    def dressed(
        self, head: Floats, look: Look, gaze: Floats, frame: NDArray[np.float64], paint: Paint | None = None
    ) -> list[Layer]:
        """Layers of any vertices (V, 3), brought to EG3D's by `frame` (3, 4); `paint`: of the skin instead of the look's."""
        body = self.body
        place = placed(frame)
        labels = body.labels.copy()
        labels[(self.scalp[body.faces].mean(1) > 0.5) & (labels == SKIN)] = HAIR
        paint = paint or partial(self.paint_skin, look)
        skin = Layer(place(head), body.faces, body.uvs, labels, paint, True, body.openness, 0.35)
        eyes = turned_eyes(body, head, gaze)
        out = [skin, self._worn("eyes", eyes, place, partial(self.paint_eyes, look), EYES)]
        brow = EYEBROWS[look.brow]
        out.append(
            self._worn(brow, body.garments[brow].on(head), place, partial(self.paint_brows, look), BROWS)
        )
        normals = vertex_normals(head, body.faces)
        out.append(self.cloth.layer(head, normals, place, look.cloth, look.neckline, body.openness))
        if look.hair != BALD:
            name = HAIRS[look.hair]
            out.append(
                self._worn(name, body.garments[name].on(head), place, partial(self.paint_hair, look), HAIR)
            )
        return out

    def repainted(self, layers: list[Layer], look: Look, skin: Paint | None = None) -> list[Layer]:
        """The same layers (of either pack) in other colours; brows, hairstyle and neckline stay.

        Args:
            layers: of `dressed`, or of ICT's.
            look: the colours.
            skin: paint of the first layer in place of MakeHuman's.
        """
        out = []
        for number, layer in enumerate(layers):
            kind = int(layer.labels[0])
            if number == 0:
                paint = skin or partial(self.paint_skin, look)
            elif kind == BACKGROUND:
                inside = layer.paint.args[0]  # type: ignore[attr-defined]
                paint = partial(self.cloth_of(layer).paint, inside, look.cloth)
            else:
                by_kind = {EYES: self.paint_eyes, BROWS: self.paint_brows, HAIR: self.paint_hair}
                paint = partial(by_kind[kind], look)
            out.append(replace(layer, paint=paint))
        return out

    @staticmethod
    def cloth_of(layer: Layer) -> Cloth:
        """The cloth that a layer was made from."""
        return layer.paint.func.__self__  # type: ignore[attr-defined,no-any-return]

    def _worn(self, name: str, vertices: Floats, place: Place, paint: Paint, label: int) -> Layer:
        garment = self.body.garments[name]
        nearest = self.nearest(name)
        labels = np.full(len(garment.faces), label, np.uint8)
        shade = self.body.openness[nearest]
        gloss = {EYES: 1.5, HAIR: 0.5}.get(label, 0.0)
        return Layer(place(vertices), garment.faces, garment.uvs, labels, paint, False, shade, gloss)

    def nearest(self, name: str) -> NDArray[np.int64]:
        """(N,) the vertex of the base mesh nearest to each of a garment's; its share of the sky is taken."""
        if name not in self._nearest:
            used = np.unique(self.body.faces)
            tree = cKDTree(self.body.base[used])
            self._nearest[name] = used[tree.query(self.body.garments[name].on(self.body.base))[1]]
        return self._nearest[name]

    @cached_property
    def _nearest(self) -> dict[str, NDArray[np.int64]]:
        return {}

    def paint_skin(self, look: Look, face: NDArray[np.int64], weights: Floats, uv: Floats) -> Floats:
        """Two skins mixed and tinted; the hair painted on the skull takes the hair's colour."""
        one, two = (bilinear(self.textures.skins[i], uv) for i in (look.skin, look.other_skin))
        rgb = ((1 - look.mix) * one + look.mix * two) * np.float32(look.tint)
        grown = (weights * self.scalp[self.body.faces[face]]).sum(1)[:, None] * 0.75
        bright = rgb.mean(1, keepdims=True)
        painted = np.float32(look.hair_colour) * (0.5 + bright)
        rgb = rgb * (1 - grown) + painted * grown
        return np.concatenate([rgb, np.ones((len(rgb), 1), np.float32)], 1)

    def paint_eyes(self, look: Look, face: NDArray[np.int64], weights: Floats, uv: Floats) -> Floats:
        return bilinear(self.textures.eyes[look.eye], uv)

    def paint_brows(self, look: Look, face: NDArray[np.int64], weights: Floats, uv: Floats) -> Floats:
        strands = bilinear(self.textures.brows[look.brow], uv)
        rgb = np.broadcast_to(np.float32(look.hair_colour) * look.brow_share, (len(uv), 3))
        return np.concatenate([rgb, strands[:, 1:] ** 0.8], 1)

    def paint_hair(self, look: Look, face: NDArray[np.int64], weights: Floats, uv: Floats) -> Floats:
        strands = bilinear(self.textures.hairs[look.hair], uv)
        bright = (strands[:, :1] * np.float32(255 / 128)) ** 0.8
        return np.concatenate([np.float32(look.hair_colour) * bright, strands[:, 1:]], 1)


def head_frame(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 4) similarity without rotation that brings landmarks (5, 3) to the mean face's, least squares."""
    target = STANDARD_LANDMARKS * UNITS_PER_DM + SHIFT
    a, b = landmarks - landmarks.mean(0), target - target.mean(0)
    scale = float((a * b).sum() / (a * a).sum())
    return np.concatenate([scale * np.eye(3), (target.mean(0) - scale * landmarks.mean(0))[:, None]], 1)


def placed(frame: NDArray[np.float64]) -> Place:
    """Points by a similarity (3, 4)."""
    return lambda points: (points @ frame[:, :3].T + frame[:, 3]).astype(np.float32)


def turned_eyes(body: MakeHuman, head: Floats, gaze: Floats) -> Floats:
    """The eyeballs on a head, each turned about its own middle."""
    vertices = body.garments["eyes"].on(head)
    yaw, pitch = gaze
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    out = vertices.copy()
    for side in (vertices[:, 0] > 0, vertices[:, 0] <= 0):
        middle = (vertices[side].min(0) + vertices[side].max(0)) / 2
        out[side] = (vertices[side] - middle) @ (about_y @ about_x).T + middle
    return out.astype(np.float32)
