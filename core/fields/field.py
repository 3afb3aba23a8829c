# SPDX-License-Identifier: GPL-3.0-or-later
"""`Field`: the one idea. Every system turns its input into one of these; everything after it is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

Kind = Literal["density", "signed_distance", "occupancy"]


class Field(Protocol):
    """Geometry and colour inside a box.

    `geometry` grows inwards for density and occupancy and is negative inside for signed distance;
    the surface lies where it equals `level`. Either method may be absent in kinds that have only one
    (Texture Fields have colour only): then `has_geometry` or `has_appearance` is False.
    """

    box: Tensor
    """(2, 3) float32: lowest and highest corner, result's frame."""
    kind: Kind
    level: float
    """Value of `geometry` on the surface."""
    channels: int
    """Channels of `appearance`; the first three are sRGB 0..1."""
    has_geometry: bool
    has_appearance: bool

    def geometry(self, points: Tensor) -> Tensor:
        """points (N, 3) float32 -> (N,) float32: density per metre of the result's frame, signed distance or probability."""
        ...

    def appearance(
        self, points: Tensor, directions: Tensor | None = None, normals: Tensor | None = None
    ) -> Tensor:
        """points (N, 3), unit viewing directions (N, 3) from the camera or None (head-on), unit normals or None -> (N, C)."""
        ...

    def save(self, path: Path) -> None:
        """Write a safetensors file that `models.stored_field.load_field` reads back without the network that made it."""
        ...

    def to(self, device: torch.device) -> Field:
        """The same field on another device."""
        ...
