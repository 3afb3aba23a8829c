# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of pictures of coded heads: 128 px of a picture of 256, each with its camera; drawn while training runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from maquette.core.models.eg3d.cameras import FOCAL, intrinsics, label_of
from maquette.core.models.heads.codes import codes
from maquette.core.models.heads.faces import orbit_pose
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from torch import Tensor

from .coded import CodedHeads
from .drawing import Drawing, Layer, Light, draw
from .makehuman import BROWS, EMPHASIS, EYES, MOUTH
from .pool import Head, make_heads
from .records import View

PICTURE, PATCH = 256, 128
RIM = 8
"""Pixels at a piece's rim that do not count: there the convolutions see zeros that stand at no rim of a whole picture."""

FACE = 5.0
"""Eyes, brows and mouth count so many times: small, and what people look at."""


@dataclass
class Patch:
    """One piece."""

    head: Head
    label: Tensor
    """(25,) camera of the piece"""
    rgba: Tensor
    """(4, PATCH, PATCH) uint8, straight"""
    counts: Tensor
    """(PATCH, PATCH) float32: 0 at a rim, unless it is the whole picture's own, `FACE` around eyes, brows and mouth, else 1"""


def random_view(rng: np.random.Generator) -> View:
    """Half as portraits are taken, the rest from anywhere around, closer or farther."""
    if rng.random() < 0.6:
        yaw, elevation = rng.normal(0, [22, 10])
        return View(float(yaw), float(np.clip(elevation, -30, 30)), float(rng.choice([1.0, 1.0, 0.8])))
    return View(float(rng.uniform(-180, 180)), float(rng.uniform(-30, 45)), float(rng.uniform(0.62, 1.0)))


def piece_label(view: View, left: float, top: float, size: float) -> Tensor:
    """(25,) label of the square piece of a view's picture with its corner at (left, top), in widths of the picture."""
    k = intrinsics(FOCAL * view.zoom)
    k[:2] /= size
    k[0, 2], k[1, 2] = (0.5 - left) / size, (0.5 - top) / size
    return torch.from_numpy(label_of(orbit_pose(view.yaw, view.elevation), k))


def make_patches(source: CodedHeads, seed: int, count: int = 3) -> list[Patch]:
    """Pieces of one head's pictures."""
    rng = np.random.default_rng([seed, 3])
    row = codes(seed)[0].numpy()
    layers, light, head = source.layers(row), source.light(row), make_heads(source, seed, 1)[0]
    out = []
    for _ in range(count):
        view = random_view(rng)
        # Faces lie around the middle; the rim of the picture is seldom of interest.
        left, top = np.clip(rng.normal([64, 64], [60, 60]), 0, PICTURE - PATCH).round() / PICTURE
        drawing = draw_piece(layers, light, view, left, top)
        rgba = torch.from_numpy(drawing.rgba).permute(2, 0, 1).contiguous()
        counts = np.outer(counted(top), counted(left)) * np.where(looked_at(drawing.labels), FACE, 1)
        label = piece_label(view, left, top, PATCH / PICTURE)
        out.append(Patch(head, label, rgba, torch.from_numpy(counts.astype(np.float32))))
    return out


def counted(first: float) -> NDArray[np.bool_]:
    """(PATCH,) rows or columns that count, of a piece that begins at a share of the picture."""
    place = np.arange(PATCH) + round(first * PICTURE)
    inner = (np.arange(PATCH) >= RIM) & (np.arange(PATCH) < PATCH - RIM)
    return np.asarray(inner | (place < RIM) | (place >= PICTURE - RIM))


def looked_at(parts: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(PATCH, PATCH) pixels of eyes, brows and mouth, and three around them."""
    return np.asarray(binary_dilation(np.isin(parts, (EYES, BROWS, MOUTH)), iterations=3))


def draw_piece(layers: list[Layer], light: Light, view: View, left: float, top: float) -> Drawing:
    """`PATCH` pixels of the whole picture."""
    whole = view.camera(PICTURE)
    camera = replace(
        whole, width=PATCH, height=PATCH, cx=whole.cx - left * PICTURE, cy=whole.cy - top * PICTURE
    )
    return draw(layers, camera, light, EMPHASIS)
