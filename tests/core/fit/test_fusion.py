# SPDX-License-Identifier: GPL-3.0-or-later
"""Fused distances keep the size of what the field shows: their zero lies on the field's outline."""

from __future__ import annotations

import math

import numpy as np
import torch
from maquette.core.fields.sparse_grid import Cells, SparseGrid, ViewColour
from maquette.core.fit.fusion import fuse
from maquette.core.progress import Progress
from maquette.core.render.volume import render_field
from maquette.core.types import Camera, View

RADIUS = 0.6


def camera(number: int, count: int) -> Camera:
    """One of `count` on a spiral around the origin, at distance 4."""
    height = 1 - (2 * number + 1) / count
    turn = number * math.pi * (3 - math.sqrt(5))
    across = math.sqrt(1 - height * height)
    back = np.array([across * math.cos(turn), across * math.sin(turn), height])
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, -np.cross(back, right), -back, 4 * back
    return Camera(f"{number}", 160, 160, 400.0, 400.0, 80.0, 80.0, pose)


def soft_ball() -> SparseGrid:
    """Density that rises over two cells, as fits leave it."""
    cells = Cells(
        torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), torch.ones(48, 48, 48, dtype=torch.bool)
    )
    table = torch.zeros(len(cells), 16)
    table[:, 0] = ((RADIUS - cells.positions().norm(dim=1)) / cells.size).clamp(-1.0, 1.0)
    return SparseGrid(cells, table, ViewColour(12))


def test_a_soft_ball_keeps_the_size_of_its_outline() -> None:
    field = soft_ball()
    cameras = [camera(number, 16) for number in range(16)]
    views = [
        View(c, np.zeros((160, 160, 3), np.float32), mask=np.ones((160, 160), np.float32)) for c in cameras
    ]
    shown = [float((render_field(field, c)[1] >= 0.5).sum()) for c in cameras]
    # A disc of area A pixels at distance 4: its rays have the slope s = sqrt(A / pi) / f and touch a ball of 4 s / sqrt(1 + s^2).
    slope = math.sqrt(float(np.mean(shown)) / math.pi) / 400.0
    outline = 4 * slope / math.sqrt(1 + slope * slope)
    fused = fuse(field, views, Progress())
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(400, 3, generator=generator), dim=1)
    along = torch.linspace(0.3, 0.9, 241)
    values = fused.geometry((directions[:, None] * along[:, None]).reshape(-1, 3)).reshape(400, 241)
    inside = values > 0 if float(values[:, 0].mean()) > 0 else values < 0
    radius = along[inside.long().argmin(1)]
    assert abs(float(radius.mean()) - outline) < 0.3 * field.cells.size
    assert float(radius.std()) < 0.25 * field.cells.size
