# SPDX-License-Identifier: GPL-3.0-or-later
"""A field whose colours are read between the points of a lattice, each asked for once.

A texture asks millions of neighbouring points; a tri-plane's colours change little between the texels of its planes, so
a lattice twice as fine as the planes answers nearly the same at a fraction of the network's work.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .field import Field


class LatticeColours:
    """`fields.field.Field` for baking: geometry and box are those of the field, colours do not depend on direction.

    Args:
        field: has appearance in three or more channels; the first three are kept.
        resolution: cells of the lattice along each side of the box.
    """

    has_appearance = True
    channels = 3

    def __init__(self, field: Field, resolution: int) -> None:
        self.field, self.resolution = field, resolution
        self.box, self.kind, self.level = field.box, field.kind, field.level
        self.has_geometry, self.geometry = field.has_geometry, field.geometry
        side = resolution + 1
        self.colours = torch.zeros((side**3, 3), device=field.box.device)
        self.known = torch.zeros(side**3, dtype=torch.bool, device=field.box.device)

    def appearance(
        self, points: Tensor, directions: Tensor | None = None, normals: Tensor | None = None
    ) -> Tensor:
        """points (N, 3) in the box -> (N, 3), trilinear."""
        side = self.resolution + 1
        low, high = self.box
        unit = (points - low) / (high - low)
        cell = (unit * self.resolution).floor().long().clamp(0, self.resolution - 1)
        first = (cell[:, 0] * side + cell[:, 1]) * side + cell[:, 2]
        wanted = torch.zeros_like(self.known)
        for corner in range(8):
            wanted[first + (corner >> 2) * side * side + (corner >> 1 & 1) * side + (corner & 1)] = True
        new = torch.nonzero(wanted & ~self.known).squeeze(1)
        if len(new):
            place = torch.stack([new // (side * side), new // side % side, new % side], 1)
            self.colours[new] = self.field.appearance(low + place / self.resolution * (high - low))[
                :, :3
            ].float()
            self.known[new] = True
        volume = self.colours.T.reshape(1, 3, side, side, side)
        grid = (unit * 2 - 1).flip(1)[None, None, None]  # the last index of the volume is z, grid_sample's x
        found = F.grid_sample(volume, grid, align_corners=True, padding_mode="border")
        return found[0, :, 0, 0].T

    def save(self, path: Path) -> None:
        """The field itself is what is kept."""
        self.field.save(path)

    def to(self, device: torch.device) -> Field:
        """On another device."""
        return LatticeColours(self.field.to(device), self.resolution)
