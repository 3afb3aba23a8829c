# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples along rays: those of a loop over every step of every ray."""

from __future__ import annotations

import torch
from maquette.core.fields.sparse_grid import Cells
from maquette.core.render.samples import OPAQUE, march
from torch import Tensor

SIDE, STEP = 12, 0.25


def scene() -> tuple[Cells, Tensor, Tensor]:
    """A grid of unit cells, one in six occupied, and rays from outside of it; some of them miss the box."""
    generator = torch.Generator().manual_seed(3)
    occupied = torch.rand(SIDE, SIDE, SIDE, generator=generator) < 1 / 6
    origins = torch.nn.functional.normalize(torch.randn(60, 3, generator=generator), dim=1) * 20 + SIDE / 2
    aims = (torch.rand(60, 3, generator=generator) - 0.5) * 1.6 * SIDE + SIDE / 2
    cells = Cells(torch.tensor([[0.0, 0.0, 0.0], [SIDE, SIDE, SIDE]]), occupied)
    return cells, origins, torch.nn.functional.normalize(aims - origins, dim=1)


def slow(
    cells: Cells, origin: Tensor, direction: Tensor, depths: Tensor | None = None
) -> list[tuple[float, int]]:
    """(distance, cell) of one ray's samples, step by step."""
    at = [(wall - origin[i]) / direction[i] for i in range(3) for wall in (0.0, SIDE)]
    near = max(min(at[2 * i], at[2 * i + 1]) for i in range(3))
    far = min(max(at[2 * i], at[2 * i + 1]) for i in range(3))
    out, stopped, before, number = [], 0.0, 0.0, 0
    stride = round(4 / STEP)
    while (distance := float(near) + (number + 0.5) * STEP) < float(far):
        if number % stride == 0:
            if before > OPAQUE:  # one stride more is kept
                break
            before = stopped
        x, y, z = (int(v) for v in (origin + direction * distance).clamp(0, SIDE - 1e-4))
        if cells.occupied[x, y, z]:
            cell = (x * SIDE + y) * SIDE + z
            out.append((distance, cell))
            stopped += 0.0 if depths is None else float(depths[cell])
        number += 1
    return out


def test_samples_are_those_of_every_step() -> None:
    cells, origins, directions = scene()
    generator = torch.Generator().manual_seed(4)
    for depths in (None, torch.rand(SIDE**3, generator=generator) * 2):
        met, ray, distance = march(cells, origins, directions, STEP, depths)
        assert 20 < len(met) < 60
        for number in range(len(origins)):
            wanted = [d for d, _ in slow(cells, origins[number], directions[number], depths)]
            row = (met == number).nonzero()[:, 0]
            found = distance[ray == row[0]] if len(row) else distance[:0]
            torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-4, rtol=0)


def test_rays_beside_the_box_meet_nothing() -> None:
    cells, _, _ = scene()
    met, ray, distance = march(
        cells, torch.tensor([[-5.0, -5.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]), STEP
    )
    assert len(met) == len(ray) == len(distance) == 0
