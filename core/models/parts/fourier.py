# SPDX-License-Identifier: GPL-3.0-or-later
"""The published positional encodings, named apart because they differ in pi, in order and in what is kept."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def nerf_encoding(x: Tensor, octaves: int) -> Tensor:
    """[x, sin x, cos x, sin 2x, cos 2x, ... sin 2^(L-1) x, cos 2^(L-1) x]: NeRF (Mildenhall et al. 2020, eq. 4), GRAF, CAMPARI.

    The public code keeps x itself and drops the paper's factor pi.

    Args:
        x: (..., D) coordinates.
        octaves: L.

    Returns:
        (..., D (2 L + 1)).
    """
    parts = [x]
    for octave in range(octaves):
        parts += [torch.sin(x * 2.0**octave), torch.cos(x * 2.0**octave)]
    return torch.cat(parts, -1)


def giraffe_encoding(x: Tensor, octaves: int, downscale: float) -> Tensor:
    """[sin pi y, cos pi y, sin 2 pi y, ...] with y = x / downscale and without y itself: GIRAFFE (Niemeyer & Geiger 2021, eq. 1).

    Args:
        x: (..., D) coordinates or unit directions.
        octaves: L.
        downscale: 2 for objects, 12 for the background in the public models.

    Returns:
        (..., 2 D L).
    """
    y = x / downscale
    parts = []
    for octave in range(octaves):
        parts += [torch.sin(2.0**octave * math.pi * y), torch.cos(2.0**octave * math.pi * y)]
    return torch.cat(parts, -1)


def convonet_encoding(x: Tensor, octaves: int = 10) -> Tensor:
    """[sin pi y, cos pi y, sin 2 pi y, ...] with y = 2 x - 1, x in 0..1: the `sin_cos` option of ConvONet's crop encoder."""
    return giraffe_encoding(2.0 * x - 1.0, octaves, 1.0)
