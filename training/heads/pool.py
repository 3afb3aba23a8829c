# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads to learn from, made while training runs: each is used a few times, then new ones take its place.

The codes follow from the number of the head, so no head comes twice, and none is one that is kept for scores (`HELD`).
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from maquette.core.models.heads.codes import codes
from torch import Tensor

from .coded import CodedHeads, other_look
from .surface import Surface, targets

HELD = 1_000_000
"""Seeds of codes from here on never train."""


@dataclass
class Head:
    """One head's targets, half precision."""

    code: Tensor
    """(WIDTH,)"""
    points: Tensor
    """(P, 3) float32"""
    said: Tensor
    """(P, 5) float16: density, colour, weight of the colour"""


def make_heads(source: CodedHeads, seed: int, looks: int = 4) -> list[Head]:
    """The head of a seed, first in its own colours, then in others: new colours cost a sixth of a new shape."""
    code = codes(seed)[0].numpy()
    rng = np.random.default_rng([seed, 1])
    layers = source.layers(code)
    surface = Surface(layers, source.inner[source.second_pack(code)], rng)
    found = targets(surface.samples(layers, source.light(code)), rng)
    points = torch.from_numpy(found.points)
    out = []
    for number in range(looks):
        if number == 0:
            own, colours = code, found.colours
        else:
            own = other_look(code, rng)
            painted = surface.samples(source.repainted(layers, own), source.light(own))
            colours = painted.colours[found.nearest]
        said = np.concatenate([found.density[:, None], colours, found.coloured[:, None]], 1)
        out.append(Head(torch.from_numpy(own), points, torch.from_numpy(said).half()))
    return out


def make_for_ever(packs: Path, first: int, step: int, looks: int, out: Any) -> None:
    """A maker process: the heads of every `step`-th seed into a queue that holds a few."""
    torch.set_num_threads(1)
    source = CodedHeads(packs)
    for seed in count(first, step):
        made = make_heads(source, seed, looks)
        # As bytes: torch's own way through shared memory holds a file open per tensor.
        out.put((seed, made[0].points.numpy(), [(h.code.numpy(), h.said.numpy()) for h in made]))


class Pool:
    """The heads at hand.

    Args:
        source: makes heads here, where there are no makers.
        first: seed of the next shape.
        size: of the pool.
        looks: of each shape.
        makers: processes that make heads meanwhile; `grow` then takes what they have made.
        packs: where they find their sources.
    """

    def __init__(
        self,
        source: CodedHeads,
        first: int,
        size: int = 1600,
        looks: int = 4,
        makers: int = 0,
        packs: Path | None = None,
    ) -> None:
        self.source, self.next, self.size, self.looks = source, first, size, looks
        self.heads: list[Head] = []
        self.queue: Any = None
        if makers:
            context = multiprocessing.get_context("spawn")
            self.queue = context.Queue(maxsize=8)
            for number in range(makers):
                job = (packs, first + number, makers, looks, self.queue)
                context.Process(target=make_for_ever, args=job, daemon=True).start()

    def grow(self, count: int = 1) -> None:
        """New shapes, each in several looks; the oldest go. From makers: all that is there, and at least `count` at first."""
        if self.queue is None:
            for _ in range(count):
                self._take(self.next, make_heads(self.source, self.next, self.looks))
        else:
            while not self.queue.empty() or len(self.heads) < count * self.looks:
                seed, points, rows = self.queue.get()
                at = torch.from_numpy(points)
                self._take(
                    seed, [Head(torch.from_numpy(code), at, torch.from_numpy(said)) for code, said in rows]
                )

    def _take(self, seed: int, heads: list[Head]) -> None:
        self.heads += heads
        self.next = max(self.next, seed + 1)
        del self.heads[: max(0, len(self.heads) - self.size)]

    def batch(self, heads: int, points: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (B, WIDTH), points (B, P, 3), what is said there (B, P, 5)."""
        chosen = [self.heads[i] for i in rng.choice(len(self.heads), heads, replace=False)]
        rows = [torch.from_numpy(rng.integers(len(h.points), size=points)) for h in chosen]
        return (
            torch.stack([h.code for h in chosen]),
            torch.stack([h.points[r] for h, r in zip(chosen, rows, strict=True)]),
            torch.stack([h.said[r] for h, r in zip(chosen, rows, strict=True)]).float(),
        )
