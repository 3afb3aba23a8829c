# SPDX-License-Identifier: GPL-3.0-or-later
"""What the numbers of our generator's latent code stand for, and how a standard normal becomes a valid code.

Most numbers are normal traits (shape, age, colours, light); the last are one-hot: the hairstyle and the pack a head is built
from. Styles do not mix (half a hairstyle is no hairstyle), so a normal is *settled*: the largest of a group is chosen.
The normal part is scaled to a fixed length, so that the mapping network, which sees codes of unit mean square, loses
nothing (our choice: a code whose meaning is known, in place of one that adversarial training would have to find).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

NORMAL: dict[str, int] = {
    "race": 3, "gender": 1, "age": 1, "muscle": 1, "weight": 1, "shape": 32, "expression": 7, "gaze": 2, "skin": 4, "tint": 2,
    "hair_colour": 3, "brow_share": 1, "brow": 3, "eye": 4, "cloth": 3, "neckline": 1, "light": 4,
}  # fmt: skip
"""Width of each group of normal numbers, in order."""
STYLES: dict[str, int] = {"hair": 7, "pack": 2}
"""Choices of each one-hot group; the last hairstyle is none, the packs are MakeHuman and ICT FaceKit."""
BIAS = {"hair": (0.0,) * 6 + (-1.2,), "pack": (0.35, -0.35)}
"""Added before the largest is taken: few are bald, a third are of the second pack."""
WIDTH = sum(NORMAL.values()) + sum(STYLES.values())
SCALE = 3.0
"""What a chosen style has in the code."""


def groups() -> dict[str, slice]:
    """Where each group lies in a code."""
    out, first = {}, 0
    for name, width in (NORMAL | STYLES).items():
        out[name] = slice(first, first + width)
        first += width
    return out


def settle(raw: Tensor) -> Tensor:
    """Standard normal (N, WIDTH), float32 -> codes of the same shape; a code stays as it is."""
    count = sum(NORMAL.values())
    normal = raw[:, :count]
    parts = [normal * (math.sqrt(count) / normal.norm(dim=1, keepdim=True).clamp(min=1e-6))]
    for name, width in STYLES.items():
        chosen = (raw[:, groups()[name]] + torch.tensor(BIAS[name]).to(raw)).argmax(1)
        parts.append(SCALE * torch.nn.functional.one_hot(chosen, width).to(raw))
    return torch.cat(parts, 1)


def codes(seed: int, count: int = 1) -> Tensor:
    """(count, WIDTH) float32 random codes; the same seed gives the same codes everywhere, and a longer row begins with a
    shorter one.
    """
    raw = np.random.default_rng(seed).standard_normal((count, WIDTH))
    return settle(torch.from_numpy(raw).float())
