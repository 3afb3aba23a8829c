# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed distances fused from depth maps, with the colours of the radiance field that the depth maps were rendered from."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as functional
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .field import Kind
from .sparse_grid import SparseGrid


class FusedField:
    """A signed-distance `Field` on a regular grid, coloured by a `SparseGrid`.

    Attributes:
        box: (2, 3) float32.
        distances: (nx, ny, nz) float32 on vertices `box[0] + index * cell`, in lengths of the frame, truncated.
        cell: edge of a cell.
        radiance: gives the colours.
    """

    kind: Kind = "signed_distance"
    level = 0.0
    channels = 3
    has_geometry = True
    has_appearance = True

    def __init__(self, box: Tensor, distances: Tensor, cell: float, radiance: SparseGrid) -> None:
        self.box, self.distances, self.cell, self.radiance = box, distances, cell, radiance

    @torch.no_grad()
    def geometry(self, points: Tensor) -> Tensor:
        last = torch.tensor(self.distances.shape, device=points.device) - 1
        units = (points - self.box[0]) / self.cell / last * 2 - 1
        values = functional.grid_sample(
            self.distances[None, None].float(),
            units.flip(-1)[None, None, None],
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
        return values.reshape(-1)

    @torch.no_grad()
    def appearance(
        self, points: Tensor, directions: Tensor | None = None, normals: Tensor | None = None
    ) -> Tensor:
        """Colours of the nearest occupied place along the normal: mesh and radiance field agree only to about a cell."""
        if normals is None:
            return self.radiance.appearance(points, directions)
        best = torch.zeros(len(points), device=points.device) - 1
        colour = points.new_full((len(points), 3), 0.5)
        for steps in (0.0, -0.7, 0.7, -1.5, 1.5):
            moved = points + normals * (steps * self.radiance.cells.size)
            density = self.radiance.geometry(moved)
            better = density > best * 1.2
            colour[better] = self.radiance.appearance(
                moved[better], None if directions is None else directions[better]
            )
            best = torch.where(better, density, best)
        return colour

    def to(self, device: torch.device) -> FusedField:
        return FusedField(self.box.to(device), self.distances.to(device), self.cell, self.radiance.to(device))

    def save(self, path: Path) -> None:
        arrays = self.radiance.arrays() | {
            "fused.box": self.box,
            "fused.distances": (self.distances / self.cell).half(),
        }
        shape = json.dumps(list(self.radiance.cells.occupied.shape))
        metadata = {"field": "fused", "shape": shape, "cell": repr(self.cell)}
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in arrays.items()},
            path,
            metadata=metadata,
        )

    @staticmethod
    def load(path: Path) -> FusedField:
        """Inverse of `save`; distances are stored in half precision, in cells."""
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        cell = float(metadata["cell"])
        radiance = SparseGrid.from_arrays(arrays, json.loads(metadata["shape"]))
        return FusedField(arrays["fused.box"], arrays["fused.distances"].float() * cell, cell, radiance)
