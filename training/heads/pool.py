# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads to learn from, made while training runs: each is used some twenty times, then a new one takes its place.

The codes follow from the number of the head, so no head comes twice, and none is one that is kept for scores (`HELD`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from maquette.core.models.heads.codes import codes
from torch import Tensor

from .coded import CodedHeads
from .surface import surface, targets

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


def make_head(source: CodedHeads, seed: int) -> Head:
    """The head of a seed."""
    code = codes(seed)
    row = code[0].numpy()
    rng = np.random.default_rng([seed, 1])
    found = targets(
        surface(source.layers(row), source.light(row), source.inner[source.second_pack(row)], rng), rng
    )
    said = np.concatenate([found.density[:, None], found.colours, found.coloured[:, None]], 1)
    return Head(code[0], torch.from_numpy(found.points), torch.from_numpy(said).half())


class Pool:
    """The heads at hand."""

    def __init__(self, source: CodedHeads, first: int, size: int = 320) -> None:
        self.source, self.next, self.size = source, first, size
        self.heads: list[Head] = []

    def grow(self, count: int = 1) -> None:
        """New heads; the oldest go."""
        for _ in range(count):
            self.heads.append(make_head(self.source, self.next))
            self.next += 1
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
