# SPDX-License-Identifier: GPL-3.0-or-later
"""Training batches of one stage: made ahead, used several times, then replaced by other rays.

Making a batch costs about as much as three steps on it; using it for ever would leave most rays of many photos unseen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ..fields.sparse_grid import SparseGrid
from .batch import Batch, Rays, make_batch

TRIAL = 5_000
"""Rays that tell how many samples a ray has."""
USES = 16
"""About how many times a batch is used before other rays take its place; our choice, costs a fifth of the time at most."""


class BatchSupply:
    """Batches of about `batch_samples` samples, `cached_samples` of them kept ready.

    Args:
        field: its cells, and its density to leave out hidden samples.
        rays: on the CPU; drawn without repetition until all had their turn.
        cached_samples: about 130 bytes each.
        points: samples that the stage will spend; no more than half as many are made.
        seed: of all draws.
    """

    def __init__(
        self,
        field: SparseGrid,
        rays: Rays,
        cached_samples: float,
        batch_samples: int,
        points: float,
        seed: int,
    ) -> None:
        self._field, self._rays = field, rays
        self._generator = torch.Generator().manual_seed(seed)
        self._order = torch.randperm(len(rays), generator=self._generator)
        self._next = 0
        trial = self._make(self._order[:TRIAL], field.cell_depths())
        self._per_batch = 0
        self.ready: list[Batch] = []
        if trial is None:
            return
        self._per_batch = int(min(100_000, max(2_000, batch_samples * TRIAL / trial.sample_count)))
        wanted = math.ceil(min(cached_samples, 0.5 * points) / batch_samples)
        wanted = min(max(1, wanted), math.ceil(len(rays) / self._per_batch))
        self.ready = self._make_many(wanted)
        self._all_seen = len(self.ready) * self._per_batch >= len(rays)
        rounds = math.ceil(points / max(1, sum(batch.sample_count for batch in self.ready)))
        self._uses = math.ceil(rounds / max(1, round(rounds / USES)))  # no set is made for a round or two

    def __iter__(self) -> Iterator[tuple[Batch, int]]:
        """Endless: a batch, and how many are left in this round over those that are ready."""
        draw = np.random.default_rng(self._generator.initial_seed())
        rounds = 0
        while True:
            for left, number in reversed(list(enumerate(draw.permutation(len(self.ready))))):
                yield self.ready[number], left
            rounds += 1
            if rounds % self._uses == 0 and not self._all_seen:
                count, self.ready = len(self.ready), []  # free the memory first
                self.ready = self._make_many(count)

    def _make_many(self, count: int) -> list[Batch]:
        depths = self._field.cell_depths()
        draws = [self._draw() for _ in range(count)]
        # Sorting for the transpose runs on one core and without Python's lock.
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda index: self._make(index, depths), draws))
        return [batch for batch in made if batch is not None]

    def _draw(self) -> Tensor:
        """Indices of the next rays."""
        if self._next >= len(self._rays):
            self._order = torch.randperm(len(self._rays), generator=self._generator)
            self._next = 0
        index = self._order[self._next : self._next + self._per_batch]
        self._next += self._per_batch
        return index

    def _make(self, index: Tensor, depths: Tensor) -> Batch | None:
        device = depths.device
        rays = Rays(*(value[index].to(device) for value in vars(self._rays).values()))
        return make_batch(self._field.cells, rays, self._field.cells.size, depths)
