# SPDX-License-Identifier: GPL-3.0-or-later
"""Regions carried between grids."""

from __future__ import annotations

import torch
from maquette.core.fit.occupancy import refine


def test_to_a_coarser_grid_and_back_nothing_is_lost() -> None:
    # A thread one cell thick: on a grid four times coarser every cell it touches is set, which covers it on the way back.
    thread = torch.zeros(32, 16, 16, dtype=torch.bool)
    thread[:, 5, 9] = True
    coarse = refine(thread, (8, 4, 4))
    assert int(coarse.sum()) == 8
    assert bool(coarse[:, 1, 2].all())
    back = refine(coarse, (32, 16, 16))
    assert bool(back[thread].all())
    assert int(back.sum()) == 8 * 64
