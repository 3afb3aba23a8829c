# SPDX-License-Identifier: GPL-3.0-or-later
"""A lattice of points of which only the bricks near a surface are stored; memory grows with the surface, not the box."""

from __future__ import annotations

import torch
from torch import Tensor

SIDE = 8
"""Points per brick and axis."""
VOLUME = SIDE**3


class Lattice:
    """Values at the integer points 0 <= i < shape, in bricks of 8 x 8 x 8 points that are made on demand.

    A *slot* is the place of a point in the storage. A point also names the unit cell of which it is the lowest corner,
    so that the same slots serve for marks on cells.
    """

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        self.shape = shape
        self.device = device
        bricks = [-(-side // SIDE) for side in shape]
        self._table = torch.full(tuple(bricks), -1, dtype=torch.int32, device=device)
        self.values = torch.empty(0, dtype=torch.float32, device=device)
        """(bricks * 512,) float32, NaN where not known yet."""
        self.is_cell = torch.empty(0, dtype=torch.bool, device=device)
        """(bricks * 512,) bool: the cell at this slot has been listed."""

    def make_room(self, points: Tensor) -> None:
        """Make the bricks that hold the given (N, 3) points."""
        bricks = points >> 3
        fresh = torch.zeros(self._table.shape, dtype=torch.bool, device=self.device)
        fresh[bricks[:, 0], bricks[:, 1], bricks[:, 2]] = True
        fresh &= self._table < 0
        count = int(fresh.sum())
        if not count:
            return
        have = len(self.values) // VOLUME
        self._table[fresh] = torch.arange(have, have + count, dtype=torch.int32, device=self.device)
        unknown = torch.full((count * VOLUME,), torch.nan, device=self.device)
        self.values = torch.cat([self.values, unknown])
        self.is_cell = torch.cat(
            [self.is_cell, torch.zeros(count * VOLUME, dtype=torch.bool, device=self.device)]
        )

    def slots(self, points: Tensor) -> Tensor:
        """(N, 3) int64 points -> (N,) int64 slots, -1 where the brick has not been made. Points lie in the lattice."""
        x, y, z = points.unbind(1)
        _, height, depth = self._table.shape
        brick = self._table.view(-1).index_select(0, ((x >> 3) * height + (y >> 3)) * depth + (z >> 3)).long()
        return torch.where(brick < 0, -1, brick * VOLUME + (((x & 7) << 6) | ((y & 7) << 3) | (z & 7)))

    def points(self, slots: Tensor) -> Tensor:
        """Inverse of `slots`: (N,) -> (N, 3) int64."""
        made = torch.nonzero(self._table >= 0)
        origin = torch.empty_like(made)
        origin[self._table[tuple(made.T)].long()] = made * SIDE
        within = torch.stack([(slots >> 6) & 7, (slots >> 3) & 7, slots & 7], 1)
        return origin.index_select(0, slots // VOLUME) + within

    def at(self, points: Tensor) -> Tensor:
        """(N, 3) -> (N,) values, NaN where unknown."""
        slots = self.slots(points)
        if not len(self.values):
            return torch.full(slots.shape, torch.nan, device=self.device)
        return torch.where(slots < 0, torch.nan, self.values.index_select(0, slots.clamp_min(0)))

    def listed(self, cells: Tensor) -> Tensor:
        """(N, 3) -> (N,) bool: these cells are listed."""
        slots = self.slots(cells)
        if not len(self.values):
            return torch.zeros(slots.shape, dtype=torch.bool, device=self.device)
        return self.is_cell.index_select(0, slots.clamp_min(0)) & (slots >= 0)
