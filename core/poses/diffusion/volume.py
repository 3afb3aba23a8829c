# SPDX-License-Identifier: GPL-3.0-or-later
"""The radiance field that learns while the cameras do: a dense grid of density and colour, and its pictures.

It is read with `grid_sample`, whose gradient with respect to the points is what moves the cameras. No network and no view
dependence: colour that changes with the direction would let a field explain wrong cameras. Values are kept as `SparseGrid`
keeps them, so that the finished field is one of those without any fitting.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...fields.sparse_grid import DENSITY_GAIN, DENSITY_SHIFT, DENSITY_UNIT, Cells, SparseGrid, ViewColour
from ...fit.occupancy import grow

FOG = -0.085
"""Density of an untouched field, in table units: half of the light passes."""
EMPTY = 0.02
"""Optical depth of a cell below which the finished field leaves it out."""
SHEET = 0.1
"""Thickness, in shares of the way, of the sheet of fog in the middle of a forward-facing scene. Without it colours settle at the
near plane, before which nothing can stand out, and all shifts come out too small."""
NEAR, FAR = 1.0, 8.0
"""Depths that a forward-facing scene fills; its scale is free, so the near plane is 1 (NeRF, appendix C)."""
MARGIN = 1.6
"""Width of a forward-facing scene's grid over that of the first camera's picture; cameras turn by up to 20 degrees."""


class Space(Protocol):
    """Where the grid lies in the world."""

    def samples(self, origins: Tensor, directions: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Rays (R, 3), shares (R, S) of the way through -> grid coordinates (R, S, 3) in -1..1, way over the box's side (R, 1)."""
        ...

    def place(self, coordinates: Tensor) -> Tensor:
        """Grid coordinates (..., 3) -> world (..., 3)."""
        ...


class Cube:
    """A cube around the origin, of side 2 `half`."""

    def __init__(self, half: float) -> None:
        self.half = half

    def samples(self, origins: Tensor, directions: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """See `Space`; rays that miss the cube have no way through it."""
        fixed, toward = origins.detach(), directions.detach()
        safe = torch.where(toward.abs() < 1e-9, 1e-9, toward)
        a, b = (-self.half - fixed) / safe, (self.half - fixed) / safe
        near = torch.minimum(a, b).amax(-1, keepdim=True).clamp_min(0)
        way = (torch.maximum(a, b).amin(-1, keepdim=True) - near).clamp_min(0)
        points = origins[:, None] + directions[:, None] * (near + way * shares)[..., None]
        return points / self.half, way / (2 * self.half)

    def place(self, coordinates: Tensor) -> Tensor:
        """Grid coordinates (..., 3) -> world."""
        return coordinates * self.half


class Frustum:
    """What a camera at the origin sees along +z, and some more at the sides; depth is divided evenly in 1 / z.

    Args:
        focal: in sides of the square picture.
    """

    def __init__(self, focal: float) -> None:
        self.slope = 0.5 * MARGIN / focal

    def depth(self, share: Tensor) -> Tensor:
        """0..1 -> z between NEAR and FAR."""
        return 1 / (1 / NEAR + (1 / FAR - 1 / NEAR) * share)

    def share(self, depth: Tensor) -> Tensor:
        """Inverse of `depth`."""
        return (1 / NEAR - 1 / depth) / (1 / NEAR - 1 / FAR)

    def samples(self, origins: Tensor, directions: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """See `Space`."""
        z = self.depth(shares)
        way = (z - origins[:, 2:]) / directions[:, 2:].clamp_min(0.1)
        points = origins[:, None] + directions[:, None] * way[..., None]
        return self.coordinates(points), torch.ones_like(shares[:, :1])

    def coordinates(self, points: Tensor) -> Tensor:
        """World (..., 3) -> grid (..., 3), in -1..1 inside."""
        z = points[..., 2:].clamp_min(0.1)
        return torch.cat([points[..., :2] / (z * self.slope), 2 * self.share(z) - 1], -1)

    def place(self, coordinates: Tensor) -> Tensor:
        """Inverse of `coordinates`."""
        z = self.depth((coordinates[..., 2:] + 1) / 2)
        return torch.cat([coordinates[..., :2] * (z * self.slope), z], -1)


class Volume(nn.Module):
    """Density and colour on the (n + 1)^3 vertices of a grid.

    Args:
        space: where it lies.
        cells: n, cells along a side.
        generator: of the first colours.
        background: whether a colour behind it is learned; else there is nothing.
    """

    def __init__(
        self, space: Cube | Frustum, cells: int, generator: torch.Generator, background: bool
    ) -> None:
        super().__init__()
        self.space = space
        coarse = 0.05 * torch.randn(1, 4, 5, 5, 5, generator=generator)
        coarse += torch.tensor([FOG, 0.5, 0.5, 0.5]).view(1, 4, 1, 1, 1)
        table = _resized(coarse, cells)
        if isinstance(space, Frustum):
            share = torch.linspace(0, 1, cells + 1).view(-1, 1, 1)
            table[:, 0] += 0.3 * torch.exp(-(((share - 0.5) / SHEET) ** 2)) - 0.2
        self.table = nn.Parameter(table)
        """(1, 4, z, y, x): density logit / DENSITY_GAIN, sRGB."""
        self.background = nn.Parameter(torch.full((3,), 0.5)) if background else None

    @property
    def cells(self) -> int:
        """Cells along a side."""
        return self.table.shape[-1] - 1

    def refine(self, cells: int) -> None:
        """Another resolution, same content."""
        self.table = nn.Parameter(_resized(self.table.detach(), cells))

    def roughness(self) -> Tensor:
        """Mean squared difference of neighbouring vertices: the density's, and a tenth of the colours'."""
        weights = self.table.new_tensor([1.0, 0.1, 0.1, 0.1]).view(1, 4, 1, 1, 1)
        total = self.table.new_zeros(())
        for axis in (2, 3, 4):
            total = total + (weights * self.table.diff(dim=axis).square()).mean()
        return total

    def render(
        self, origins: Tensor, directions: Tensor, samples: int, jitter: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Colours (R, 3), premultiplied where there is no background, and opacities (R,) of rays.

        Args:
            origins, directions: (R, 3), unit directions; differentiable.
            samples: per ray, evenly spaced over the ray's way through the grid.
            jitter: draws a shift of each ray's samples of up to half a step; None: none.
        """
        weights, colour, _ = self._march(origins, directions, samples, jitter)
        opacity = weights.sum(1)
        rgb = torch.einsum("rs,crs->rc", weights, colour)
        if self.background is not None:
            rgb = rgb + (1 - opacity)[:, None] * self.background
        return rgb, opacity

    @torch.no_grad()
    def depth(self, origins: Tensor, directions: Tensor, samples: int) -> Tensor:
        """(R,) distance along unit rays (R, 3) at which half of the light is stopped; where less is, the last sample's."""
        weights, _, points = self._march(origins, directions, samples, None)
        half = (weights.cumsum(1) > 0.5).float().argmax(1)
        half = torch.where(weights.sum(1) > 0.5, half, samples - 1)
        chosen = points[torch.arange(len(points)), half]
        return ((self.space.place(chosen) - origins) * directions).sum(1)

    def _march(
        self, origins: Tensor, directions: Tensor, samples: int, jitter: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (R, S), colours (3, R, S) and grid coordinates (R, S, 3) of the samples."""
        index = (torch.arange(samples, device=origins.device) + 0.5).expand(len(origins), samples)
        if jitter is not None:
            index = index + torch.rand(len(origins), 1, generator=jitter) - 0.5
        points, way = self.space.samples(origins, directions, index / samples)
        optical, colour = self._read(points)
        optical = optical * way / samples
        passed = torch.exp(-(torch.cumsum(optical, 1) - optical))
        return passed * (1 - torch.exp(-optical)), colour, points

    def _read(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Grid coordinates (R, S, 3) -> optical depth of a whole side (R, S), colours (3, R, S)."""
        read = F.grid_sample(self.table, points[None, None], align_corners=True, padding_mode="border")
        return _density(read[0, 0, 0]), read[0, 1:, 0]

    @torch.no_grad()
    def field(self) -> SparseGrid:
        """The same field with its empty cells left out, in the world's frame."""
        return (
            _cube_field(self.table, self.space.half)
            if isinstance(self.space, Cube)
            else self._frustum_field()
        )

    def _frustum_field(self) -> SparseGrid:
        """Sampled in a cube around what is not empty."""
        space = self.space
        assert isinstance(space, Frustum)
        n = self.cells
        deep = (_density(self.table[0, 0]) / n > EMPTY).nonzero().flip(1)  # (V, 3) x, y, z
        unit = 2 * deep / n - 1 if len(deep) else torch.tensor([[-1.0] * 3, [1.0] * 3])
        unit = unit[unit[:, :2].abs().amax(1) < 0.9 / MARGIN + 0.3]
        places = space.place(unit)
        low, high = places.min(0).values, places.max(0).values
        half = 0.51 * float((high - low).max())
        centre = 0.5 * (low + high)
        axis = torch.linspace(-half, half, n + 1)
        table = torch.empty(1, 4, n + 1, n + 1, n + 1)
        for row, offset in enumerate(axis):
            y, x = torch.meshgrid(axis, axis, indexing="ij")
            points = torch.stack([x, y, offset.expand_as(x)], -1) + centre
            where = space.coordinates(points)
            optical, colour = self._read(where)
            # A side of the frustum's grid is a way of z^2 (1 / NEAR - 1 / FAR) at depth z.
            per_length = optical / (points[..., 2].square() * (1 / NEAR - 1 / FAR)).clamp_min(1e-6)
            outside = (where.abs() > 1).any(-1)
            logit = _inverse_density((per_length * 2 * half).masked_fill(outside, 0.0))
            table[0, :, row] = torch.cat([logit[None], colour])
        return _cube_field(table, half, centre)


def _density(logits: Tensor) -> Tensor:
    """Table channel 0 -> optical depth of a way as long as the box's side."""
    return F.softplus(logits * DENSITY_GAIN + DENSITY_SHIFT) * DENSITY_UNIT


def _inverse_density(density: Tensor) -> Tensor:
    positive = (density / DENSITY_UNIT).clamp(1e-6, 50.0)
    return (positive + torch.log(-torch.expm1(-positive)) - DENSITY_SHIFT) / DENSITY_GAIN


def _resized(table: Tensor, cells: int) -> Tensor:
    return F.interpolate(table, size=(cells + 1,) * 3, mode="trilinear", align_corners=True)


def _cube_field(table: Tensor, half: float, centre: Tensor | None = None) -> SparseGrid:
    n = table.shape[-1] - 1
    values = table[0].permute(3, 2, 1, 0)  # (x, y, z, 4)
    deep = _density(values[..., 0]) / n > EMPTY
    corner = torch.zeros((n,) * 3, dtype=torch.bool)
    for x in (0, 1):
        for y in (0, 1):
            for z in (0, 1):
                corner |= deep[x : n + x, y : n + y, z : n + z]
    box = torch.tensor([[-half] * 3, [half] * 3]) + (0.0 if centre is None else centre)
    cells = Cells(box, grow(corner))
    rows = values.reshape(-1, 4)[cells.vertices].float().contiguous()
    return SparseGrid(cells, rows, ViewColour(0).requires_grad_(False))
