# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads of ICT FaceKit (MIT), which has shapes and expressions but no colours, dressed by MakeHuman.

A thin-plate warp (Bookstein 1989) fitted to landmarks and to rays through both skulls brings MakeHuman's base head onto the
mean ICT head. Through it each ICT vertex finds its colour and its part on MakeHuman's skin, and hair and brows find their
place; they follow the vertices next to them when identity and expression move these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from .drawing import Layer, vertex_normals
from .heads import Cloth, Floats, Wardrobe, head_frame, placed
from .looks import BALD, Look, random_look
from .makehuman import BROWS, EYEBROWS, EYES, HAIR, HAIRS, MOUTH, NECK, SKIN, triangles
from .occlusion import sky_share, sphere

SKIN_VERTICES = 14062
SOCKETS, INSIDE_MOUTH = slice(13294, 14062), slice(11248, 13294)
BALLS = (slice(14832, 15632), slice(16402, 17202))
"""Vertices of the inner shell of either eye; the outer ones, cornea and tear film, are left out."""
LANDMARKS = ([1507, 1528], [3742, 3721], [4857], [5708], [6213])
"""Corners of the eye at the picture's left and right, tip of the nose, corners of the mouth."""
SAME = {
    132: 978,
    297: 4857,
    317: 1147,
    362: 0,
    523: 5533,
    492: 5518,
    732: 966,
    2627: 3721,
    2673: 3742,
    4622: 6213,
}
"""MakeHuman's vertex -> ICT's, middle and left: nasion, tip and base of the nose, lips from above to below, chin, corners of
the eye and the mouth. The right side follows by symmetry."""
RIGHT = {3721: 1507, 3742: 1528, 6213: 5708}
STRONGEST = 1.8
"""Coefficients of identity stay within this many standard deviations."""
EYE_MIDDLE, IRIS, IRIS_DEGREES = (0.6996, 0.695), 0.118, 24.0
"""Of the pack's eye textures: middle and radius of the iris; the angle that we let it span on ICT's eyeball."""
NECKLINE = -7.15
"""Of ICT's frame, where MakeHuman's has 0."""
STILL = ("PupilDilate", "eyeLook", "eyeBlink", "mouthClose")
"""Expressions that are not drawn: gaze is painted, lids close rarely by `eyeBlink` alone."""


@dataclass(frozen=True)
class IctTraits:
    """What makes one head."""

    identity: Floats
    """(100,)"""
    expression: Floats
    """(57,) 0..1"""
    gaze: Floats
    """(2,) radians"""
    look: Look

    def vector(self) -> Floats:
        """All of it as float32, the look last."""
        return np.concatenate([self.identity, self.expression, self.gaze, self.look.vector()])


class IctHeads:
    """The pack, with what it borrows from MakeHuman's."""

    def __init__(self, folder: Path, wardrobe: Wardrobe) -> None:
        pack = np.load(folder / "ict_head_f16.npz")
        self.wardrobe = wardrobe
        self.base: Floats = pack["verts"] / 10  # decimetres
        self.identity: Floats = pack["identity"].astype(np.float32).reshape(100, -1) / 10
        self.expressions: Floats = pack["expression"].astype(np.float32).reshape(57, -1) / 10
        self.names = [str(name) for name in pack["expression_names"]]
        faces = triangles(pack["quads"].astype(np.int64))
        self.faces = faces[(faces < SKIN_VERTICES).all(1)]
        self.balls = [faces[(faces >= b.start).all(1) & (faces < b.stop).all(1)] - b.start for b in BALLS]

    def traits(self, rng: np.random.Generator) -> IctTraits:
        """A random head; race, sex and age only choose its colours, which know nothing of its shape."""
        macros = np.r_[rng.dirichlet([0.35, 0.35, 0.35]), rng.random(2), 0.5, 0.5].astype(np.float32)
        expression = np.zeros(57, np.float32)
        free = [i for i, name in enumerate(self.names) if not name.startswith(STILL)]
        for i in rng.choice(free, int(rng.integers(0, 6)), replace=False):
            expression[i] = rng.uniform(0.1, 0.7)
            name = self.names[i]
            twin = name[:-1] + {"L": "R", "R": "L"}.get(name[-1], name[-1])
            if twin in self.names and rng.random() < 0.85:
                expression[self.names.index(twin)] = expression[i]
        if rng.random() < 0.3:
            for side in "LR":
                expression[self.names.index(f"mouthSmile_{side}")] = rng.uniform(0.2, 0.9)
        return IctTraits(
            rng.normal(0, 1, 100).clip(-STRONGEST, STRONGEST).astype(np.float32), expression,
            rng.normal(0, [0.12, 0.07]).clip(-0.3, 0.3).astype(np.float32),
            random_look(macros, self.wardrobe.textures, rng),
        )  # fmt: skip

    def shape(self, traits: IctTraits) -> Floats:
        """(V, 3) decimetres."""
        moved = traits.identity @ self.identity + traits.expression @ self.expressions
        return self.base + moved.reshape(-1, 3)

    def layers(self, traits: IctTraits) -> list[Layer]:
        """Skin, eyes, brows and hair, in EG3D's frame."""
        head, look, wardrobe = self.shape(traits), traits.look, self.wardrobe
        frame = head_frame(landmarks(head))
        place = placed(frame)
        none = np.zeros((len(self.faces), 3, 2), np.float32)
        out = [
            Layer(
                place(head), self.faces, none, self.labels, self.skin_paint(look), True, self.openness, 0.35
            )
        ]
        for ball, faces in zip(BALLS, self.balls, strict=True):
            uvs = self.eye_uvs(head[ball], traits.gaze)[faces]
            labels = np.full(len(faces), EYES, np.uint8)
            shade = np.full(ball.stop - ball.start, 0.75, np.float32)
            out.append(
                Layer(
                    place(head[ball]),
                    faces,
                    uvs,
                    labels,
                    partial(wardrobe.paint_eyes, look),
                    True,
                    shade,
                    1.5,
                )
            )
        moved = head - self.base
        worn = [(EYEBROWS[look.brow], BROWS, partial(wardrobe.paint_brows, look), 0.0)]
        if look.hair != BALD:
            worn.append((HAIRS[look.hair], HAIR, partial(wardrobe.paint_hair, look), 0.5))
        for name, label, paint, gloss in worn:
            garment = wardrobe.body.garments[name]
            base, near, share = self.fitted(name)
            vertices = base + (share[..., None] * moved[near]).sum(1)
            labels = np.full(len(garment.faces), label, np.uint8)
            out.append(
                Layer(
                    place(vertices),
                    garment.faces,
                    garment.uvs,
                    labels,
                    paint,
                    False,
                    self.openness[near[:, 0]],
                    gloss,
                )
            )
        normals = vertex_normals(head, self.faces)
        neckline = look.neckline + NECKLINE
        out.append(self.cloth.layer(head, normals, place, look.cloth, neckline, self.openness))
        return out

    @cached_property
    def cloth(self) -> Cloth:
        """What is worn."""
        low = self.faces[(self.base[self.faces][..., 1] < -1.0).all(1) & (self.labels == NECK)]
        return Cloth.on(self.base, low, self.base @ np.float32([0, 1, -0.25]) + 0.1 * self.base[:, 0] ** 2)

    @cached_property
    def warp(self) -> RBFInterpolator:
        """MakeHuman's base head -> mean ICT head, both in their own decimetres."""
        body = self.wardrobe.body
        rows, columns = list(SAME), list(SAME.values())
        rows += [int(body.mirror[row]) for row in rows if SAME[row] in RIGHT]
        columns += [RIGHT[column] for column in columns if column in RIGHT]
        ours, theirs = head_frame(body.landmarks(body.base)), head_frame(landmarks(self.base))
        skulls = [
            (body.base[np.unique(body.faces)] @ ours[:, :3].T + ours[:, 3]),
            (self.base[: INSIDE_MOUTH.start] @ theirs[:, :3].T + theirs[:, 3]),
        ]
        directions = sphere(500)
        x, y, z = directions.T
        kept = (
            (y > -0.45)
            & ~((np.abs(x) < 0.75) & (z > 0.3) & (y < 0.75))
            & ~((np.abs(x) > 0.75) & (np.abs(y) < 0.45))
        )
        radii = [reach(skull, directions) for skull in skulls]
        points = [directions[kept] * r[kept, None] + MIDDLE for r in radii]
        a = np.concatenate([body.base[rows], (points[0] - ours[:, 3]) / ours[0, 0]])
        b = np.concatenate([self.base[columns], (points[1] - theirs[:, 3]) / theirs[0, 0]])
        return RBFInterpolator(a, b, kernel="thin_plate_spline", smoothing=1e-4)

    @cached_property
    def match(self) -> tuple[NDArray[np.int64], Floats]:
        """For each ICT vertex, (V,) MakeHuman's face and (V, 2) place in its texture, the nearest once warped."""
        body = self.wardrobe.body
        faces = np.nonzero((body.islands == 0) | (body.islands == 2))[0]
        grid = [(a / 4, b / 4, (4 - a - b) / 4) for a in range(5) for b in range(5 - a)]
        weights = np.float32(grid)
        warped = self.warp(body.base).astype(np.float32)
        points = np.einsum("gk,fkd->fgd", weights, warped[body.faces[faces]]).reshape(-1, 3)
        uvs = np.einsum("gk,fkd->fgd", weights, body.uvs[faces]).reshape(-1, 2)
        nearest = cKDTree(points).query(self.base)[1]
        return faces[nearest // len(weights)], uvs[nearest].astype(np.float32)

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(F,) MakeHuman's part next to each face; mouth and sockets by their vertices."""
        body, wardrobe = self.wardrobe.body, self.wardrobe
        parts = body.labels.copy()
        parts[(wardrobe.scalp[body.faces].mean(1) > 0.5) & (parts == SKIN)] = HAIR
        of_vertex = parts[self.match[0]]
        of_vertex[INSIDE_MOUTH], of_vertex[SOCKETS] = MOUTH, EYES
        corners = np.sort(of_vertex[self.faces], 1)
        return np.ascontiguousarray(corners[:, 1])  # the middle one is the majority's, if there is one

    @cached_property
    def openness(self) -> Floats:
        """(V,) share of the sky seen by vertices of the skin."""
        return sky_share(self.base, self.faces)

    def fitted(self, name: str) -> tuple[Floats, NDArray[np.int64], Floats]:
        """A garment on the mean head: (N, 3) vertices, (N, 6) vertices of the head that they follow, (N, 6) shares."""
        if name not in self._fitted:
            garment = self.wardrobe.body.garments[name]
            base = self.warp(garment.on(self.wardrobe.body.base)).astype(np.float32)
            surface = self.base[: INSIDE_MOUTH.start]
            distance, near = cKDTree(surface).query(base, 6)
            # The warp leaves some of it under the skin.
            normals = vertex_normals(self.base, self.faces)[near[:, 0]]
            normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
            height = ((base - surface[near[:, 0]]) * normals).sum(1)
            least = 0.015 if name in EYEBROWS else 0.05
            base += normals * ((least - height).clip(0, 0.25) * (distance[:, 0] < 0.4))[:, None]
            share = 1 / (distance + 0.02)
            self._fitted[name] = base, near, (share / share.sum(1, keepdims=True)).astype(np.float32)
        return self._fitted[name]

    @cached_property
    def _fitted(self) -> dict[str, tuple[Floats, NDArray[np.int64], Floats]]:
        return {}

    def skin_paint(self, look: Look):  # type: ignore[no-untyped-def]
        """Colours per vertex, from MakeHuman's skins."""
        wardrobe, (face, uv) = self.wardrobe, self.match
        weights = np.full((len(face), 3), 1 / 3, np.float32)
        rgba = wardrobe.paint_skin(look, face, weights, uv)
        rgba[INSIDE_MOUTH, :3] = rgba[INSIDE_MOUTH, :3].mean(0) * 0.2 + np.float32([0.25, 0.08, 0.08])
        rgba[SOCKETS, :3] = rgba[SOCKETS, :3] * 0.5 + np.float32([0.3, 0.15, 0.15])

        def paint(number: NDArray[np.int64], weights: Floats, _uv: Floats) -> Floats:
            return (weights[..., None] * rgba[self.faces[number]]).sum(1)

        return paint

    @staticmethod
    def eye_uvs(ball: Floats, gaze: Floats) -> Floats:
        """(N, 2) places of an eyeball's vertices in the pack's eye textures: angle from the gaze is distance from the iris."""
        yaw, pitch = gaze
        forward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        offset = ball - (ball.min(0) + ball.max(0)) / 2
        offset /= np.linalg.norm(offset, axis=1, keepdims=True)
        aside = offset - (offset @ forward)[:, None] * forward
        angle = np.degrees(np.arccos((offset @ forward).clip(-1, 1)))
        length = np.linalg.norm(aside, axis=1).clip(1e-6)
        radius = (IRIS * angle / IRIS_DEGREES).clip(0, 0.25)
        return (np.array(EYE_MIDDLE) + aside[:, :2] / length[:, None] * radius[:, None]).astype(np.float32)


MIDDLE = np.array([0.0, 0.08, -0.05])
"""Of a skull, in EG3D's frame: where rays start."""


def landmarks(head: Floats) -> NDArray[np.float64]:
    """(5, 3), as `MakeHuman.landmarks`."""
    return np.stack([head[rows].mean(0) for rows in LANDMARKS]).astype(np.float64)


def reach(points: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(D,) distance from `MIDDLE` of the points seen in each direction: the mean of the three farthest of the nearest 12."""
    offset = points - MIDDLE
    distance = np.linalg.norm(offset, axis=1)
    near = cKDTree(offset / distance[:, None]).query(directions, 12)[1]
    return np.asarray(np.sort(distance[near], 1)[:, -3:].mean(1))
