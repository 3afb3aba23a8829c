# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera around a head as six numbers that gradients can move: three turns about the pivot, place and size of the crop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..models.eg3d.encoder import rotation_xyz

NUMBERS = 6
"""Turns about the camera's x, y and z axes in radians; x and y of the crop in shares of its side; logarithm of its size."""


def moved_label(label: Tensor, numbers: Tensor, pivot: Sequence[float]) -> Tensor:
    """A camera label turned about the pivot and with its picture moved; differentiable in the numbers.

    The distance stays: turning about the pivot and moving the picture is all that a face finder can be wrong in, since its crop
    fixes the size in the picture (B.2 of the specification lets the camera look at one point from one distance).

    Args:
        label: (1, 25).
        numbers: (6,), see `NUMBERS`; zeros leave the label as it is.
        pivot: (3,) in the generator's frame.
    """
    pose, k = label[:, :16].view(4, 4), label[:, 16:].view(3, 3)
    turn = rotation_xyz(numbers[None, :3])[0]
    rotation = pose[:3, :3] @ turn
    centre = torch.tensor(list(pivot), dtype=label.dtype, device=label.device)
    eye = centre + rotation @ pose[:3, :3].T @ (pose[:3, 3] - centre)
    upper = torch.cat([rotation, eye[:, None]], 1)
    scale = torch.stack([numbers[5].exp(), numbers[5].exp(), torch.ones_like(numbers[5])])
    shift = torch.stack([numbers[3], numbers[4], torch.zeros_like(numbers[3])])
    lens = torch.cat([(k * scale[:, None])[:, :2], (k[:, 2] + shift)[:, None]], 1)
    return torch.cat([upper.flatten(), pose[3], lens.flatten()])[None]
