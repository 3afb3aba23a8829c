# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a network's settings off the names and shapes of its weights, so that an artist never has to state them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
"""Weight key -> shape."""


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Key -> shape of a state dict."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def under(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    """The entries whose key starts with `prefix`, without it."""
    return {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}


def count(shapes: Shapes, pattern: str) -> int:
    """How many of pattern.format(0), pattern.format(1) ... are there without a gap."""
    number = 0
    while pattern.format(number) in shapes:
        number += 1
    return number


def has(shapes: Shapes, prefix: str) -> bool:
    """Whether any key starts with `prefix`."""
    return any(key.startswith(prefix) for key in shapes)
