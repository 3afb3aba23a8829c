# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads to learn from, made while training runs: each is used a few times, then new ones take its place.

The codes follow from the number of the head, so no head comes twice, and none is one that is kept for scores (`HELD`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from maquette.core.models.heads.codes import codes
from torch import Tensor

from .coded import CodedHeads, other_look
from .makers import Makers
from .surface import Surface, targets

SHIFT = 0.05
"""Box units: shifts are stored, and count in the loss, in units of this."""
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
    """(P, 8) float16: density, colour, weight of the colour, shift to the unbent head in units of `SHIFT`"""


def make_heads(source: CodedHeads, seed: int, looks: int = 4) -> list[Head]:
    """The head of a seed, first in its own colours, then in others: new colours cost a sixth of a new shape."""
    code = codes(seed)[0].numpy()
    rng = np.random.default_rng([seed, 1])
    layers = source.layers(code)
    surface = Surface(layers, source.inner[source.second_pack(code)], rng)
    found = targets(surface.samples(layers, source.light(code)), surface.sight, rng)
    points = torch.from_numpy(found.points)
    shift = surface.shifts(source.unbent(code))[found.nearest] / SHIFT
    out = []
    for number in range(looks):
        if number == 0:
            own, colours = code, found.colours
        else:
            own = other_look(code, rng)
            painted = surface.samples(source.repainted(layers, own), source.light(own))
            colours = painted.colours[found.nearest]
        said = np.concatenate([found.density[:, None], colours, found.coloured[:, None], shift], 1)
        out.append(Head(torch.from_numpy(own), points, torch.from_numpy(said).half()))
    return out


class Pool:
    """The heads at hand.

    Args:
        source: makes heads here, where there are no makers.
        first: seed of the next shape.
        size: of the pool.
        looks: of each shape.
        makers: make heads meanwhile.
    """

    def __init__(
        self, source: CodedHeads, first: int, size: int = 1600, looks: int = 4, makers: Makers | None = None
    ) -> None:
        self.source, self.next, self.size, self.looks, self.makers = source, first, size, looks, makers
        self.heads: list[Head] = []

    def grow(self, count: int = 1) -> None:
        """New shapes, each in several looks; the oldest go. From makers what is there, and at first at least `count`."""
        if self.makers is None:
            seeds = range(self.next, self.next + count)
            made = [(seed, make_heads(self.source, seed, self.looks)) for seed in seeds]
        else:
            made = self.makers.take(0 if self.heads else count)
        for seed, heads in made:
            self.heads += heads
            self.next = max(self.next, seed + 1)
        del self.heads[: max(0, len(self.heads) - self.size)]

    def batch(self, heads: int, points: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (B, WIDTH), points (B, P, 3), what is said there (B, P, 8)."""
        chosen = [self.heads[i] for i in rng.choice(len(self.heads), heads, replace=False)]
        rows = [torch.from_numpy(rng.integers(len(h.points), size=points)) for h in chosen]
        return (
            torch.stack([h.code for h in chosen]),
            torch.stack([h.points[r] for h, r in zip(chosen, rows, strict=True)]),
            torch.stack([h.said[r] for h, r in zip(chosen, rows, strict=True)]).float(),
        )
