# SPDX-License-Identifier: GPL-3.0-or-later
"""The head of MakeHuman's base mesh (CC0): shape from sparse targets, garments that follow it, parts of the face.

Frame of this file: MakeHuman's, decimetres, y up, the face towards +z.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from maquette.core.models.heads.parser import PARTS
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, cKDTree

from .occlusion import sky_share

BACKGROUND, SKIN, HAIR, EYES, BROWS, NOSE, MOUTH, EARS, NECK = range(len(PARTS))
EMPHASIS = np.float32([1, 1, 1, 1.3, 1.6, 1, 1, 1, 1])
"""Of parts where the largest share decides a pixel's label: brows are thin and let skin through."""

HAIRS = ("hair_bob02", "hair_ponytail01", "hair_short01", "hair_short02", "hair_short03", "hair_short04")
EYEBROWS = tuple(f"brow_{i:03d}" for i in range(1, 13))
RACES = ("african", "asian", "caucasian")
MACROS = (*RACES, "gender", "age", "muscle", "weight")
"""Races sum to 1; gender 0 female, 1 male; age 0 young, 1 old; muscle and weight 0.5 usual."""

OPPOSITES = (
    ("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("compress", "uncompress"),
    ("concave", "convex"), ("left", "right"),
)  # fmt: skip
LEFT_OUT = re.compile(r"head/head-trans|asymm-|ear-shape-pointed|head-(age|angle)|neck-trans|neck-scale-vert")
CORNERS = {"eye": (2627, 2673), "nose": (297,), "mouth": (4622,)}
"""Vertices of the landmarks: outer and inner corner of the left eye, tip of the nose, left corner of the mouth."""


@dataclass(frozen=True)
class Axis:
    """One direction of shape: a coefficient in -1..1, or 0..1 where there is no opposite."""

    name: str
    negative: tuple[int, ...]
    """Targets that a negative coefficient applies; those of the left and the right side together."""
    positive: tuple[int, ...]


@dataclass(frozen=True)
class Garment:
    """A mesh bound to the head: hair, brows or eyes."""

    bind: NDArray[np.int64]
    weights: NDArray[np.float32]
    offset: NDArray[np.float32]
    scale_vertices: NDArray[np.int64]
    scale_distance: NDArray[np.float32]
    faces: NDArray[np.int64]
    """(F, 3)"""
    uvs: NDArray[np.float32]
    """(F, 3, 2)"""

    def on(self, head: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vertices (N, 3) on a morphed head (V, 3) that still has its helpers."""
        a, b = head[self.scale_vertices[:, 0]], head[self.scale_vertices[:, 1]]
        scale = np.abs(np.diagonal(a - b)) / self.scale_distance
        return (self.weights[..., None] * head[self.bind]).sum(1) + self.offset * scale


class MakeHuman:
    """The pack in memory."""

    def __init__(self, folder: Path) -> None:
        pack = np.load(folder / "makehuman_head.npz")
        self.base: NDArray[np.float32] = pack["verts"]
        self.faces = triangles(pack["quads"].astype(np.int64))
        self.uv_faces = triangles(pack["uv_quads"].astype(np.int64))
        self.uvs: NDArray[np.float32] = pack["uv"][self.uv_faces]
        self.names = [str(name) for name in pack["target_names"]]
        self.offsets, self.index, delta = (
            pack["target_off"],
            pack["target_idx"].astype(np.int64),
            pack["target_delta"],
        )
        self.delta = delta.astype(np.float32)
        columns = (3 * self.index[:, None] + np.arange(3)).reshape(-1)
        self.targets = csr_matrix(
            (self.delta.reshape(-1), columns, 3 * self.offsets), shape=(len(self.names), self.base.size)
        )
        self.garments = {
            key: Garment(
                pack[f"{key}_bind"].astype(np.int64), pack[f"{key}_w"], pack[f"{key}_d"],
                pack[f"{key}_scale_v"].astype(np.int64), pack[f"{key}_scale_d"],
                triangles(pack[f"{key}_quads"].astype(np.int64)),
                pack[f"{key}_uv"][triangles(pack[f"{key}_uvq"].astype(np.int64))],
            )
            for key in (*HAIRS, *EYEBROWS, "eyes")
        }  # fmt: skip
        self.axes = shape_axes(
            [name for name in self.names if not re.match("macro|expression|asym", name)], self.names
        )
        self.lopsided = shape_axes([name for name in self.names if name.startswith("asym")], self.names)
        prefix = f"expression/units/{RACES[0]}/"
        self.units = [name.removeprefix(prefix) for name in self.names if name.startswith(prefix)]

    def shape(
        self, macros: NDArray[np.float32], axes: NDArray[np.float32], expression: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Vertices (V, 3) with helpers.

        Args:
            macros: (7,), see `MACROS`.
            axes: one per axis and lopsided axis, -1..1.
            expression: one per unit, 0..1.
        """
        share = np.zeros(len(self.names), np.float32)
        number = {name: i for i, name in enumerate(self.names)}
        gender, age, muscle, weight = (float(v) for v in macros[3:])
        genders, ages = {"female": 1 - gender, "male": gender}, {"young": 1 - age, "old": age}
        muscles = {
            "minmuscle": max(0, 1 - 2 * muscle),
            "averagemuscle": 1 - abs(2 * muscle - 1),
            "maxmuscle": max(0, 2 * muscle - 1),
        }
        weights = {
            "minweight": max(0, 1 - 2 * weight),
            "averageweight": 1 - abs(2 * weight - 1),
            "maxweight": max(0, 2 * weight - 1),
        }
        for g, of_gender in genders.items():
            for a, of_age in ages.items():
                for r, of_race in zip(RACES, macros[:3], strict=True):
                    share[number[f"macrodetails/{r}-{g}-{a}"]] = of_race * of_gender * of_age
                for m, of_muscle in muscles.items():
                    for w, of_weight in weights.items():
                        name = f"macrodetails/universal-{g}-{a}-{m}-{w}"
                        if name in number:  # the average of both is the base mesh
                            share[number[name]] = of_gender * of_age * of_muscle * of_weight
        for axis, value in zip([*self.axes, *self.lopsided], axes, strict=True):
            for target in axis.positive if value > 0 else axis.negative:
                share[target] += abs(value)
        for r, of_race in zip(RACES, macros[:3], strict=True):
            for unit, value in zip(self.units, expression, strict=True):
                share[number[f"expression/units/{r}/{unit}"]] += of_race * value
        return self.base + np.asarray(self.targets.T @ share, np.float32).reshape(-1, 3)

    def reach(self, *names: str) -> NDArray[np.float32]:
        """(V,) how far targets move each vertex, of the farthest that each moves any; the largest of them."""
        out = np.zeros(len(self.base), np.float32)
        for name in names:
            i = self.names.index(name)
            part = slice(self.offsets[i], self.offsets[i + 1])
            moved = np.linalg.norm(self.delta[part], axis=1)
            out[self.index[part]] = np.maximum(out[self.index[part]], moved / moved.max())
        return out

    @cached_property
    def islands(self) -> NDArray[np.int64]:
        """(F,) island of the texture: 0 head, 1 inside of the mouth, 2 neck and shoulders, 3 and 4 eye sockets."""
        edges = np.concatenate([self.uv_faces[:, [0, 1]], self.uv_faces[:, [1, 2]]])
        count = int(self.uv_faces.max()) + 1
        graph = csr_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
        return connected_components(graph, directed=False)[1][self.uv_faces[:, 0]].astype(np.int64)

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(F,) part of the face of each triangle, by what MakeHuman's own targets move."""
        out = np.full(len(self.faces), SKIN, np.uint8)
        middle = self.base[self.faces].mean(1)
        nose = self.reach(
            "nose/nose-scale-depth-incr", "nose/nose-flaring-incr", "nose/nose-point-width-incr"
        )
        lips = self.reach("mouth/mouth-lowerlip-volume-incr", "mouth/mouth-upperlip-volume-incr")
        ears = self.reach(
            *(f"ears/{s}-ear-{n}" for s in "lr" for n in ("wing-incr", "lobe-incr", "flap-incr"))
        )
        out[nose[self.faces].mean(1) > 0.45] = NOSE
        mouth = Delaunay(middle[lips[self.faces].mean(1) > 0.42][:, :2])  # with the lips' inner rim
        out[(mouth.find_simplex(middle[:, :2]) >= 0) & (middle[:, 2] > 1)] = MOUTH
        out[(ears[self.faces].mean(1) > 0.12) & (np.abs(middle[:, 0]) > 0.6)] = EARS
        out[self.islands == 1] = MOUTH
        out[self.islands == 2] = NECK
        out[self.islands >= 3] = EYES
        return out

    @cached_property
    def openness(self) -> NDArray[np.float32]:
        """(V,) share of the sky that each vertex of the base mesh sees: z-buffers from all around."""
        used = np.unique(self.faces)
        out = np.ones(len(self.base), np.float32)
        out[used] = sky_share(self.base, self.faces)[used]
        return out

    @cached_property
    def mirror(self) -> NDArray[np.int64]:
        """(V,) each vertex's counterpart on the other side."""
        return np.asarray(cKDTree(self.base).query(self.base * [-1, 1, 1])[1])

    def landmarks(self, head: NDArray[np.float32]) -> NDArray[np.float64]:
        """(5, 3): eye at the picture's left and right, tip of the nose, corners of the mouth, left and right."""
        eye, nose, mouth = (list(CORNERS[name]) for name in ("eye", "nose", "mouth"))
        other = self.mirror
        rows = (other[eye], eye, nose, other[mouth], mouth)
        return np.stack([head[row].mean(0) for row in rows]).astype(np.float64)


def triangles(quads: NDArray[np.int64]) -> NDArray[np.int64]:
    """(Q, 4) -> (2 Q, 3)."""
    return quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)


def shape_axes(names: list[str], numbers: list[str]) -> list[Axis]:
    """Targets paired with their opposites, those of both sides on one axis; the ones left out excepted."""
    kept = sorted({name for name in names if not LEFT_OUT.search(name)})
    taken: set[str] = set()
    out: list[Axis] = []
    for name in kept:
        if name in taken:
            continue
        stem, _, ending = name.rpartition("-")
        pair = next((p for p in OPPOSITES if ending in p), None)
        if re.search(r"asym-.*-[lr]$", name):
            pair = ("l", "r")
        negative, positive = ([f"{stem}-{end}"] for end in pair) if pair else ([], [name])
        both = [re.sub(r"/[lr]-", f"/{side}-", n) for n in (*negative, *positive) for side in "lr"]
        taken.update(both)
        sides = lambda group: sorted({re.sub(r"/[lr]-", f"/{side}-", n) for n in group for side in "lr"})  # noqa: E731
        rows = [tuple(numbers.index(n) for n in sides(g) if n in numbers) for g in (negative, positive)]
        out.append(Axis(f"{stem}-{pair[1]}" if pair else name, rows[0], rows[1]))
    return out
