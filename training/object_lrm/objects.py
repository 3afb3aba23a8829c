# SPDX-License-Identifier: GPL-3.0-or-later
"""Training objects: the CC0 packs and the procedural ones, as plain coloured meshes. Frame: z up, front -y, longest side 1."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PACKS = ("kaykit", "quaternius", "pmndrs")
HELD_OUT = 0.05
"""Share of families that never train: they choose level, recipe and checkpoint."""


@dataclass(frozen=True)
class ColouredMesh:
    """A triangle mesh with a colour per corner."""

    name: str
    vertices: NDArray[np.float32]
    """(V, 3), box centred on the origin, longest side 1."""
    faces: NDArray[np.int64]
    """(F, 3), counter-clockwise seen from outside."""
    corner_rgb: NDArray[np.float32]
    """(F, 3, 3) sRGB 0..1."""

    def colours(self, face: NDArray[np.int32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Faces (N,) and barycentric weights (N, 3) -> (N, 3)."""
        return (weights[..., None] * self.corner_rgb[face]).sum(1)


def family(name: str) -> str:
    """The name without numbers and endings, so that `Tree_4_Snow` and `Tree_2` fall on the same side of the split."""
    parts = [part.split(".")[0] for part in name.split("/")]
    last = parts[-2] if parts[-1] == "model" else parts[-1]
    words = [w for w in re.split(r"[^A-Za-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", last)) if len(w) > 1]
    return " ".join(words[:2]).lower()


def held_out(name: str) -> bool:
    """Whether an object belongs to the validation objects; depends on its family's name only."""
    digest = hashlib.sha256(family(name).encode()).digest()
    return int.from_bytes(digest[:4], "little") / 2**32 < HELD_OUT


def unit_box(vertices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move the box's centre to the origin and scale its longest side to 1."""
    low, high = vertices.min(0), vertices.max(0)
    return ((vertices - (low + high) / 2) / (high - low).max()).astype(np.float32)


def pack_objects(folder: Path) -> Iterator[ColouredMesh]:
    """Every object of `cc0_objects`, packs one after the other."""
    for pack in PACKS:
        with np.load(folder / f"{pack}_train.npz") as arrays:
            table = {name: arrays[name] for name in arrays.files}
        for i, name in enumerate(table["names"]):
            v = slice(*table["vert_off"][i : i + 2])
            f = slice(*table["face_off"][i : i + 2])
            y_up = table["verts"][v].astype(np.float32) / 65535 - 0.5
            z_up = np.stack([y_up[:, 0], -y_up[:, 2], y_up[:, 1]], 1)
            colours = table["corner_rgb"][f].astype(np.float32) / 255
            yield ColouredMesh(f"{pack}/{name}", unit_box(z_up), table["faces"][f].astype(np.int64), colours)
