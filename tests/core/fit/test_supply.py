# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches are used about `USES` times, then other rays have their turn."""

from __future__ import annotations

import torch
from maquette.core.fields.sparse_grid import Cells, SparseGrid, ViewColour
from maquette.core.fit.batch import Rays
from maquette.core.fit.supply import USES, BatchSupply

COUNT = 40_000


def supply_of(points: float) -> BatchSupply:
    """8 samples a ray: 80,000 samples are a quarter of the rays, in batches of 2,500 rays."""
    cells = Cells(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), torch.ones(8, 8, 8, dtype=torch.bool))
    field = SparseGrid(cells, torch.zeros(len(cells), 16), ViewColour(12))
    origins = torch.cat([torch.rand(COUNT, 2) * 1.8 - 0.9, torch.full((COUNT, 1), -3.0)], 1)
    directions = torch.tensor([0.0, 0.0, 1.0]).expand(COUNT, 3)
    rays = Rays(origins, directions, torch.zeros(COUNT, 3), torch.ones(COUNT), torch.arange(COUNT))
    return BatchSupply(field, rays, 80_000, 20_000, points, seed=0)


def test_all_rays_have_their_turn() -> None:
    supply = supply_of(4 * USES * 80_000)
    assert len(supply.ready) == 4
    rounds = 4 * USES * len(supply.ready)
    seen = torch.zeros(COUNT, dtype=torch.int64)
    for number, (batch, left) in enumerate(supply):
        if number == rounds:
            break
        assert left == len(supply.ready) - 1 - number % len(supply.ready)
        seen[batch.rays.view] += 1
    assert torch.equal(seen, torch.full((COUNT,), USES))


def test_no_rays_are_made_for_the_last_round_alone() -> None:
    supply = supply_of((USES + 1) * 80_000)
    first = supply.ready
    for number, _ in enumerate(supply, start=1):
        if number == (USES + 1) * len(first):
            break
    assert supply.ready is first
