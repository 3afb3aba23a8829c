# SPDX-License-Identifier: GPL-3.0-or-later
"""A radiance field on the vertices of the occupied cells of a regular grid.

Density logit, diffuse colour and a few view features live on grid vertices and are interpolated trilinearly inside
occupied cells; everywhere else the density is zero. Density is activated after interpolation (DVGO, "post-activation"),
which lets one cell hold a sharp surface. Colour is deferred (SNeRG): features are composited along the ray first and one
small network per ray adds the view-dependent part, so its cost does not grow with the samples.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as functional
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .field import Kind

DENSITY_GAIN = 16.0
"""Logit per table unit; our choice: 16 lets Adam at rate 0.07 carve empty space in about a hundred steps."""
DENSITY_SHIFT = -4.5
"""Logit of an untouched cell: nearly empty."""
DENSITY_UNIT = 250.0
"""Densities are in units of this many per longest box side (our choice)."""
EMPTY = 1e-4
"""Density below which a cell is drawn as empty."""


def harmonics(directions: Tensor) -> Tensor:
    """(N, 3) unit -> (N, 9) real spherical harmonics up to degree 2."""
    x, y, z = directions.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, 0.2820948), -0.4886025 * y, 0.4886025 * z, -0.4886025 * x,
            1.0925484 * x * y, -1.0925484 * y * z, 0.3153916 * (3 * z * z - 1), -1.0925484 * x * z,
            0.5462742 * (x * x - y * y),
        ],
        -1,
    )  # fmt: skip


class ViewColour(nn.Module):
    """Composited features (R, F) and directions (R, 3) -> what the direction adds to the diffuse colour (R, 3)."""

    def __init__(self, features: int, width: int = 32) -> None:
        super().__init__()
        self.inner = nn.Linear(features + 9, width)
        self.outer = nn.Linear(width, 3)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, features: Tensor, directions: Tensor) -> Tensor:
        hidden = torch.relu(self.inner(torch.cat([features, harmonics(directions)], -1)))
        added: Tensor = self.outer(hidden)
        return added


class Cells:
    """The grid's bookkeeping: which cells are occupied, and which table row belongs to which vertex.

    Args:
        box: (2, 3) float32 corners; the cell size follows from the longest side and `occupied`'s shape.
        occupied: (nx, ny, nz) bool.
    """

    def __init__(self, box: Tensor, occupied: Tensor) -> None:
        self.box = box
        self.occupied = occupied
        self.shape = torch.tensor(occupied.shape, device=occupied.device)
        self.size = float((box[1] - box[0]).max()) / max(occupied.shape)
        nx, ny, nz = occupied.shape
        used = torch.zeros((nx + 1, ny + 1, nz + 1), dtype=torch.bool, device=occupied.device)
        for a in (0, 1):
            for b in (0, 1):
                for c in (0, 1):
                    used[a : nx + a, b : ny + b, c : nz + c] |= occupied
        self.strides = ((ny + 1) * (nz + 1), nz + 1, 1)
        self.vertices = used.flatten().nonzero()[:, 0]  # (V,) linear vertex ids
        self.rows = torch.zeros(used.numel(), dtype=torch.int32, device=occupied.device)
        self.rows[self.vertices] = torch.arange(len(self.vertices), dtype=torch.int32, device=occupied.device)
        self._used = used.flatten()
        corner = [
            a * self.strides[0] + b * self.strides[1] + c for a in (0, 1) for b in (0, 1) for c in (0, 1)
        ]
        self._corners = torch.tensor(corner, device=occupied.device)

    def __len__(self) -> int:
        return len(self.vertices)

    def cell_units(self, points: Tensor) -> Tensor:
        """(N, 3) points -> coordinates in cells from the box's low corner."""
        return (points - self.box[0]) / self.size

    def cell_index(self, units: Tensor) -> Tensor:
        """(N, 3) cell units -> (N,) linear cell id; callers see to it that the points lie inside the grid."""
        whole = torch.minimum(units.long().clamp(min=0), self.shape - 1)
        return (whole[:, 0] * self.shape[1] + whole[:, 1]) * self.shape[2] + whole[:, 2]

    def is_occupied(self, units: Tensor) -> Tensor:
        """(N, 3) cell units -> (N,) bool, False outside the box."""
        inside = ((units >= 0) & (units < self.shape)).all(-1)
        return inside & self.occupied.flatten()[self.cell_index(units)]

    def corners(self, units: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3) cell units inside occupied cells -> rows (N, 8) int32 and trilinear weights (N, 8) float32."""
        whole = torch.minimum(units.long().clamp(min=0), self.shape - 1)
        part = units - whole
        first = whole[:, 0] * self.strides[0] + whole[:, 1] * self.strides[1] + whole[:, 2]
        rows = self.rows[first[:, None] + self._corners]
        x, y, z = torch.stack([1 - part, part], -1).unbind(1)  # each (N, 2)
        weights = (x[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :]).reshape(-1, 8)
        return rows, weights

    def positions(self) -> Tensor:
        """(V, 3) float32 vertex positions in the result's frame."""
        x = self.vertices // self.strides[0]
        y = self.vertices // self.strides[1] % (self.strides[0] // self.strides[1])
        z = self.vertices % self.strides[1]
        return self.box[0] + torch.stack([x, y, z], -1) * self.size

    def neighbours(self) -> Tensor:
        """(V, 6) int32 rows of the six neighbours; a missing one is the vertex itself."""
        own = torch.arange(len(self), dtype=torch.int32, device=self.rows.device)
        found = []
        for stride in self.strides:
            for step in (stride, -stride):
                other = (self.vertices + step).clamp(0, self._used.numel() - 1)
                found.append(torch.where(self._used[other], self.rows[other], own))
        return torch.stack(found, 1)

    def resample(self, table: Tensor, positions: Tensor, empty: Tensor) -> Tensor:
        """A table read at other positions: interpolated over the vertices that exist, `empty` (C,) where none does.

        positions: (M, 3) float32 in the result's frame -> (M, C).
        """
        units = torch.minimum(self.cell_units(positions).clamp(min=0), self.shape - 1e-3)
        whole = units.long()
        first = whole[:, 0] * self.strides[0] + whole[:, 1] * self.strides[1] + whole[:, 2]
        rows, weights = self.corners(units)
        weights = weights * self._used[first[:, None] + self._corners] + 1e-9
        total = weights.sum(1, keepdim=True)
        values = interpolate(table, rows, weights / total)
        return torch.where(total > 1e-6, values, empty)


def interpolate(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """table (V, C), rows (N, 8) int32, weights (N, 8) -> (N, C)."""
    return functional.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")


class SparseGrid:
    """A density `Field` (see `fields.field.Field`) on `Cells`.

    Attributes:
        table: (V, 1 + 3 + F) float32: density logit / DENSITY_GAIN, diffuse sRGB, view features.
        decoder: adds the view-dependent colour; F features in.
    """

    kind: Kind = "density"
    channels = 3
    has_geometry = True
    has_appearance = True

    def __init__(self, cells: Cells, table: Tensor, decoder: ViewColour) -> None:
        self.cells = cells
        self.table = table
        self.decoder = decoder
        self.box = cells.box
        self.unit = DENSITY_UNIT / float((cells.box[1] - cells.box[0]).max())
        self.level = float(torch.tensor(0.5).log().neg()) / cells.size  # one cell deep stops half the light

    def density(self, logits: Tensor) -> Tensor:
        """Interpolated table column 0 -> density per unit length."""
        return functional.softplus(logits * DENSITY_GAIN + DENSITY_SHIFT) * self.unit

    @torch.no_grad()
    def cell_depths(self) -> Tensor:
        """(nx * ny * nz,) float32: optical depth of one cell's length at each cell's centre, 0 where it is not occupied."""
        nx, ny, nz = self.cells.occupied.shape
        index = self.cells.occupied.flatten().nonzero()[:, 0]
        centres = torch.stack([index // (ny * nz), index // nz % ny, index % nz], 1) + 0.5
        logits = interpolate(self.table[:, :1].contiguous(), *self.cells.corners(centres))
        depths = self.table.new_zeros(nx * ny * nz)
        depths[index] = self.density(logits[:, 0]) * self.cells.size
        return depths

    def decode(self, composited: Tensor, directions: Tensor) -> Tensor:
        """(R, 3 + F) composited colour and features, (R, 3) directions -> (R, 3) sRGB, not clamped."""
        return composited[:, :3] + self.decoder(composited[:, 3:], directions)

    def features(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """points (N, 3) -> density (N,), features (N, 3 + F); zero outside occupied cells."""
        units = self.cells.cell_units(points)
        inside = self.cells.is_occupied(units).nonzero()[:, 0]
        values = interpolate(self.table, *self.cells.corners(units[inside]))
        density = points.new_zeros(len(points))
        density[inside] = self.density(values[:, 0])
        features = points.new_zeros(len(points), self.table.shape[1] - 1)
        features[inside] = values[:, 1:]
        return density, features

    @torch.no_grad()
    def geometry(self, points: Tensor) -> Tensor:
        return self.features(points)[0]

    @torch.no_grad()
    def appearance(
        self, points: Tensor, directions: Tensor | None = None, normals: Tensor | None = None
    ) -> Tensor:
        features = self.features(points)[1]
        if directions is None:
            return (
                features[:, :3].clamp(0, 1)
                if normals is None
                else self.decode(features, -normals).clamp(0, 1)
            )
        return self.decode(features, directions).clamp(0, 1)

    def to(self, device: torch.device) -> SparseGrid:
        cells = Cells(self.cells.box.to(device), self.cells.occupied.to(device))
        return SparseGrid(cells, self.table.to(device), self.decoder.to(device))

    def arrays(self) -> dict[str, Tensor]:
        """Everything that a file must hold."""
        out = {
            "box": self.cells.box,
            "occupied": self.cells.occupied.flatten().nonzero()[:, 0].to(torch.int32),
            "table": self.table.detach().half(),
        }
        return out | {f"decoder.{name}": value for name, value in self.decoder.state_dict().items()}

    def save(self, path: Path) -> None:
        shape = json.dumps(list(self.cells.occupied.shape))
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.arrays().items()}
        save_file(tensors, path, metadata={"field": "sparse_grid", "shape": shape})

    @staticmethod
    def load(path: Path) -> SparseGrid:
        """Inverse of `save` (the table is stored in half precision)."""
        with safe_open(path, "pt") as file:
            shape = json.loads(file.metadata()["shape"])
            arrays = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return SparseGrid.from_arrays(arrays, shape)

    @staticmethod
    def from_arrays(arrays: dict[str, Tensor], shape: list[int]) -> SparseGrid:
        """From `arrays()` and the grid's shape."""
        occupied = torch.zeros(shape[0] * shape[1] * shape[2], dtype=torch.bool)
        occupied[arrays["occupied"].long()] = True
        table = arrays["table"].float()
        decoder = ViewColour(table.shape[1] - 4, arrays["decoder.inner.weight"].shape[0])
        decoder.load_state_dict(
            {k.removeprefix("decoder."): v for k, v in arrays.items() if k.startswith("decoder.")}
        )
        return SparseGrid(Cells(arrays["box"], occupied.reshape(shape)), table, decoder.requires_grad_(False))
