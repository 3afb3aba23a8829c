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
        self._first = torch.full(tuple(bricks), -VOLUME, device=device)
        """int64 slot of each brick's first point, -VOLUME where the brick has not been made: all its slots are negative then."""
        self.values = torch.empty(0, dtype=torch.float32, device=device)
        """(bricks * 512,) float32, NaN where not known yet."""
        self.is_cell = torch.empty(0, dtype=torch.bool, device=device)
        """(bricks * 512,) bool: the cell at this slot has been listed."""

    def make_room(self, points: Tensor) -> None:
        """Make the bricks that hold the given (N, 3) points."""
        bricks = points >> 3
        fresh = torch.zeros(self._first.shape, dtype=torch.bool, device=self.device)
        fresh[bricks[:, 0], bricks[:, 1], bricks[:, 2]] = True
        fresh &= self._first < 0
        count = int(fresh.sum())
        if not count:
            return
        have = len(self.values) // VOLUME
        self._first[fresh] = torch.arange(have, have + count, device=self.device) * VOLUME
        unknown = torch.full((count * VOLUME,), torch.nan, device=self.device)
        self.values = torch.cat([self.values, unknown])
        self.is_cell = torch.cat(
            [self.is_cell, torch.zeros(count * VOLUME, dtype=torch.bool, device=self.device)]
        )

    def slots(self, points: Tensor) -> Tensor:
        """(N, 3) int64 points -> (N,) int64 slots, negative where the brick has not been made. Points lie in the lattice."""
        x, y, z = points.unbind(1)
        _, height, depth = self._first.shape
        brick = (z >> 3).add_(y >> 3, alpha=depth).add_(x >> 3, alpha=height * depth)
        within = (z & 7).add_(y & 7, alpha=SIDE).add_(x & 7, alpha=SIDE * SIDE)
        return within.add_(self._first.view(-1).index_select(0, brick))

    @staticmethod
    def steps(offsets: Tensor) -> Tensor:
        """What to add to the slot of a point with even coordinates for the point (K, 3) of 0s and 1s further: bricks have even sides."""
        return (offsets[:, 0] * SIDE + offsets[:, 1]) * SIDE + offsets[:, 2]

    def points(self, slots: Tensor) -> Tensor:
        """Inverse of `slots`: (N,) -> (N, 3) int64."""
        made = torch.nonzero(self._first >= 0)
        origin = torch.empty_like(made)
        origin[self._first[tuple(made.T)] // VOLUME] = made * SIDE
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
