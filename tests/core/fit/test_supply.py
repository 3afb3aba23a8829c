# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches are used `USES` times, then other rays have their turn."""

from __future__ import annotations

import torch
from maquette.core.fields.sparse_grid import Cells, SparseGrid, ViewColour
from maquette.core.fit.batch import Rays
from maquette.core.fit.supply import USES, BatchSupply


def test_all_rays_have_their_turn() -> None:
    count = 40_000
    cells = Cells(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), torch.ones(8, 8, 8, dtype=torch.bool))
    field = SparseGrid(cells, torch.zeros(len(cells), 16), ViewColour(12))
    origins = torch.cat([torch.rand(count, 2) * 1.8 - 0.9, torch.full((count, 1), -3.0)], 1)
    directions = torch.tensor([0.0, 0.0, 1.0]).expand(count, 3)
    rays = Rays(origins, directions, torch.zeros(count, 3), torch.ones(count), torch.arange(count))
    # 8 samples a ray: 80,000 samples are a quarter of the rays, in batches of 2,500 rays.
    supply = BatchSupply(field, rays, 80_000, 20_000, 1e9, seed=0)
    assert len(supply.ready) == 4
    rounds = 4 * USES * len(supply.ready)
    seen = torch.zeros(count, dtype=torch.int64)
    for number, (batch, left) in enumerate(supply):
        if number == rounds:
            break
        assert left == len(supply.ready) - 1 - number % len(supply.ready)
        seen[batch.rays.view] += 1
    assert torch.equal(seen, torch.full((count,), USES))
