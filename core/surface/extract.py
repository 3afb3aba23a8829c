# SPDX-License-Identifier: GPL-3.0-or-later
"""From a field to a mesh at any resolution: look at a coarse grid, refine only the cells the surface crosses.

Multi-resolution iso-surface extraction (MISE; Occupancy Networks, Mescheder et al. 2019, section 3.3) on sparse bricks.
It differs from the published rule (that is `surface.mise`) where the published rule loses thin parts: cells that the
surface *nearly* crosses are refined too, cells with given points in them always are, and the surface is followed across
the border of the refined region until it closes. The dense fine grid never exists.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import FailedError, InputError
from ..fields.field import Field
from ..progress import Progress
from ..types import Mesh
from .lattice import Lattice
from .marching import CORNERS, march

log = logging.getLogger(__name__)

OUTSIDE = -1e6
"""Value of the layer of points around the box: closes the surface there (ONet's generator pads with the same number)."""
COARSEST = 48
"""The first grid has at least so many cells along the longest side, our choice: 110,000 points cost a blink."""
FAINTEST = 1e-4
"""Densities below this share of the level count as this much where logarithms are compared: empty space is empty."""
BYTES_PER_POINT = 4 + 1 + 4
"""Value, cell mark, cell number."""


@dataclass(frozen=True)
class ExtractSettings:
    """Settings of `extract_surface`."""

    resolution: int = 256
    """Cells along the box's longest side; cells are cubes."""
    level: float | None = None
    """Value of the field on the surface; None: the field's own."""
    chunk: int = 1 << 17
    """Points per call of the field."""
    polish: int = 1
    """Steps of false position that move each vertex along its edge onto the true field; 0: linear, as in a dense grid."""
    max_bytes: int = 3 << 30
    """Storage of the finest lattice at most."""

    def __post_init__(self) -> None:
        if not 4 <= self.resolution <= 4096:
            raise InputError(
                "BAD_SETTING", f"resolution is {self.resolution}.", "Use a value from 4 to 4096."
            )


class _Extraction:
    """One run: the grid, and how to ask the field."""

    def __init__(self, field: Field, settings: ExtractSettings, progress: Progress) -> None:
        self.field, self.settings, self.progress = field, settings, progress
        self.device = field.box.device
        low, high = field.box.cpu().double()
        side = high - low
        self.step = float(side.max()) / settings.resolution
        cells = [max(1, round(float(s) / self.step + 0.49)) for s in side]
        self.depth = 0
        while self.depth < 4 and settings.resolution / 2 ** (self.depth + 1) >= COARSEST:
            self.depth += 1
        # One layer outside the box on each side, and as many more as the coarsest cells need.
        coarse = 2**self.depth
        self.coarse_cells = tuple(-(-(n + 2) // coarse) for n in cells)
        self.last = torch.tensor(cells, device=self.device) + 1  # lattice index of the box's far side
        overhang = (torch.tensor(cells) * self.step - side) / 2
        self.origin = (low - overhang - self.step).float().to(self.device)  # lattice point 0
        self.box = field.box.float()
        level = field.level if settings.level is None else settings.level
        self.level = float(level)
        self.sign = -1.0 if field.kind == "signed_distance" else 1.0
        self.evaluated = 0

    def positions(self, lattice_points: Tensor) -> Tensor:
        """Fine lattice units (N, 3), any dtype -> result's frame, held inside the box (it may end within a cell)."""
        return torch.minimum(
            torch.maximum(self.origin + lattice_points.float() * self.step, self.box[0]), self.box[1]
        )

    def ask(self, positions: Tensor) -> Tensor:
        """(N, 3) in the result's frame -> (N,) float32, positive inside."""
        out = torch.empty(len(positions), device=self.device)
        for start in range(0, len(positions), self.settings.chunk):
            self.progress.check()
            part = self.field.geometry(positions[start : start + self.settings.chunk])
            out[start : start + self.settings.chunk] = part.reshape(-1).float()
        self.evaluated += len(positions)
        out = (out - self.level) * self.sign
        if bool(torch.isnan(out).any()):
            raise FailedError(
                "FIELD_NOT_FINITE",
                "The field holds values that are not numbers.",
                "Fit it again or use other weights.",
            )
        return out

    def evaluate(self, points: Tensor, stride: int) -> Tensor:
        """Lattice points (N, 3) of the level with this stride -> (N,), `OUTSIDE` beyond the box."""
        fine = points * stride
        within = ((fine >= 1) & (fine <= self.last)).all(1)
        out = torch.full((len(points),), OUTSIDE, device=self.device)
        out[within] = self.ask(self.positions(fine[within]))
        return out


def extract_surface(
    field: Field,
    settings: ExtractSettings | None = None,
    progress: Progress | None = None,
    seeds: Tensor | None = None,
) -> Mesh:
    """The surface of a field as a closed mesh, in the frame of `field.box`.

    Args:
        field: has geometry.
        settings: resolution, level, memory.
        progress: told how far it is; asked whether to go on.
        seeds: (S, 3) points in the result's frame whose cells are refined whatever the coarse grid says.

    Returns:
        Mesh with (V, 3) float32 vertices and (F, 3) int32 faces, one vertex per crossed edge of the fine grid, outward
        and closed at the box's border. It has no faces where the level is crossed nowhere.

    Raises:
        FailedError: FIELD_NOT_FINITE; SURFACE_TOO_BIG when the surface needs more than `max_bytes`.
        Cancelled: if the artist asked for it.
    """
    settings, progress = settings or ExtractSettings(), progress or Progress()
    with torch.inference_mode():
        run = _Extraction(field, settings, progress)
        lattice, cells = _coarse(run)
        for level in range(run.depth):
            values = _corner_values(lattice, cells)
            chosen = cells[_near_surface(run, values, 2 ** (run.depth - level))]
            if level == 0:
                chosen = _with_neighbours(chosen, run.coarse_cells)
            if seeds is not None and len(seeds):
                chosen = _once(torch.cat([chosen, _seed_cells(run, seeds, level)]))
            del values
            lattice, cells = _refine(run, lattice, chosen, level)
            progress.update((level + 1) / (run.depth + 2))
        mesh = _mesh(run, lattice, cells)
    log.info(
        "surface at %d: %d points asked, %d vertices, %d faces",
        settings.resolution, run.evaluated, len(mesh.vertices), len(mesh.faces),
    )  # fmt: skip
    return mesh


def _coarse(run: _Extraction) -> tuple[Lattice, Tensor]:
    """The coarsest lattice, known everywhere, and all its cells."""
    shape = tuple(n + 1 for n in run.coarse_cells)
    lattice = Lattice(shape, run.device)
    points = torch.stack(
        torch.meshgrid(*(torch.arange(n, device=run.device) for n in shape), indexing="ij"), -1
    ).view(-1, 3)
    lattice.make_room(points)
    lattice.values[lattice.slots(points)] = run.evaluate(points, 2**run.depth)
    cells = points[(points < torch.tensor(run.coarse_cells, device=run.device)).all(1)]
    lattice.is_cell[lattice.slots(cells)] = True
    return lattice, cells


def _corner_values(lattice: Lattice, cells: Tensor) -> Tensor:
    """(C, 3) cells -> (C, 8) values at their corners."""
    return torch.stack([lattice.at(cells + offset) for offset in CORNERS.to(cells.device)], 1)


def _near_surface(run: _Extraction, values: Tensor, stride: int) -> Tensor:
    """(C, 8) -> (C,) bool: crossed, or so nearly crossed that a thin part may hide inside.

    A signed distance says how far the surface is: at most half a cell's diagonal from one of its corners. Any other
    field may overshoot its corner values by half their range, by an eighth in the last and dearest split (our choice:
    a Lipschitz-like bound without the constant; what it misses there is followed from beside). Of densities the
    logarithms are compared, since they are exponentials of something that varies evenly, and the overshoot is their
    whole range, half of it in the last split: sheets of half a fine cell are found (`python -m tests.bench_lrm_speed grid256`).
    """
    lowest, highest = values.amin(1), values.amax(1)
    crossed = (highest > 0) & (lowest <= 0)
    last = stride == 2
    if run.sign < 0:
        return crossed | (values.abs().amin(1) <= (0.5 if last else 0.5 * 3**0.5) * run.step * stride)
    within = lowest > 0.5 * OUTSIDE
    share = 0.125 if last else 0.5
    if run.field.kind == "density" and run.level > 0:
        logarithms = (values / run.level + 1.0).clamp_min(FAINTEST).log()
        lowest, highest = logarithms.amin(1), logarithms.amax(1)
        share = 0.5 if last else 1.0
    overshoot = share * (highest - lowest)
    nearly = (highest + overshoot > 0) & (lowest - overshoot <= 0) & within
    return crossed | nearly


def _with_neighbours(cells: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Cells and the 26 around each, (C, 3) -> (D, 3), every cell once."""
    mark = torch.zeros([n + 2 for n in shape], device=cells.device)
    mark[tuple((cells + 1).T)] = 1.0
    grown = torch.nn.functional.max_pool3d(mark[None, None], 3, 1)[0, 0]
    return torch.nonzero(grown[1:-1, 1:-1, 1:-1])


def _seed_cells(run: _Extraction, seeds: Tensor, level: int) -> Tensor:
    """(S, 3) points -> cells of this level that hold them; points outside the box are left out."""
    seeds = seeds.float().to(run.device)
    seeds = seeds[((seeds > run.box[0]) & (seeds < run.box[1])).all(1)]
    return ((seeds - run.origin) / run.step).long() >> (run.depth - level)


def _once(cells: Tensor) -> Tensor:
    """(C, 3) non-negative -> (D, 3) sorted, every cell once."""
    key = torch.unique((cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2])
    return torch.stack([key >> 42, (key >> 21) & 0x1FFFFF, key & 0x1FFFFF], 1)


def _refine(run: _Extraction, coarse: Lattice, chosen: Tensor, level: int) -> tuple[Lattice, Tensor]:
    """Split the chosen cells; follow the surface wherever it leaves them. Returns the finer lattice and its cells."""
    stride = 2 ** (run.depth - level - 1)
    shape = tuple(n * 2 ** (level + 1) + 1 for n in run.coarse_cells)
    fine = Lattice(shape, run.device)
    lists = []
    while len(chosen):
        children = (2 * chosen[:, None] + CORNERS.to(run.device)).reshape(-1, 3)
        for corner in CORNERS.to(
            run.device
        ):  # bricks have even sides: these eight meet every brick of the 27 points
            fine.make_room(2 * (chosen + corner))
        if len(fine.values) * BYTES_PER_POINT > run.settings.max_bytes:
            raise FailedError(
                "SURFACE_TOO_BIG",
                f"The surface needs more than {run.settings.max_bytes / 2**30:.1f} GiB at this resolution.",
                "Choose a lower resolution or another threshold.",
            )
        slots = (fine.slots(2 * chosen)[:, None] + fine.steps(CORNERS.to(run.device))).view(-1)
        children = children[~fine.is_cell[slots]]
        fine.is_cell[slots] = True
        _fill(run, coarse, fine, chosen, stride)
        lists.append(children)
        chosen = _beyond_border(run, fine, children, stride)
    cells = torch.cat(lists) if lists else torch.empty((0, 3), dtype=torch.long, device=run.device)
    return fine, cells


def _fill(run: _Extraction, coarse: Lattice, fine: Lattice, chosen: Tensor, stride: int) -> None:
    """Give every one of the 27 points of each split cell its value: copied from the coarse lattice or asked."""
    wanted = torch.zeros(len(fine.values), dtype=torch.bool, device=run.device)
    corners = CORNERS.to(run.device)
    for far in corners:
        slots = fine.slots(2 * (chosen + far))
        known = fine.values.index_select(0, slots)
        fine.values[slots] = torch.where(known.isnan(), coarse.at(chosen + far), known)
        # Per axis the three points are the near corner, the one after it, and the far corner.
        for step in fine.steps(corners[~(corners & far).any(1)]).tolist():
            wanted[slots + step] = True
    slots = torch.nonzero(wanted & fine.values.isnan()).squeeze(1)
    fine.values[slots] = run.evaluate(fine.points(slots), stride)


def _beyond_border(run: _Extraction, fine: Lattice, cells: Tensor, stride: int) -> Tensor:
    """Coarse cells, not yet split, into which the surface runs from the given fine cells, every cell once."""
    corners = CORNERS.to(run.device)
    values = _corner_values(fine, cells)
    crossed = ((values > 0).any(1)) & ((values <= 0).any(1))
    cells, inside = cells[crossed], values[crossed] > 0
    found = []
    for axis in range(3):
        for far in (0, 1):
            face = inside[:, corners[:, axis] == far]
            leaves = cells[face.any(1) & ~face.all(1)].clone()
            leaves[:, axis] += 2 * far - 1
            found.append(leaves[~fine.listed(leaves)] >> 1)
    return _once(torch.cat(found))


def _mesh(run: _Extraction, lattice: Lattice, cells: Tensor) -> Mesh:
    """Marching cubes on the crossed cells of the finest lattice."""
    values = _corner_values(lattice, cells)
    crossed = (values > 0).any(1) & (values <= 0).any(1)
    cells, values = cells[crossed], values[crossed]
    number = torch.full((len(lattice.values),), -1, dtype=torch.int32, device=run.device)
    number[lattice.slots(cells)] = torch.arange(len(cells), dtype=torch.int32, device=run.device)
    number_of: Callable[[Tensor], Tensor] = lambda at: number.index_select(0, lattice.slots(at)).long()  # noqa: E731
    base, axis, ends, faces = march(values, cells, number_of)
    along = _polish(run, base, axis, ends)
    vertices = base.float()
    vertices[torch.arange(len(base), device=run.device), axis] += along
    positions = run.positions(vertices)
    return Mesh(positions.cpu().numpy(), faces.to(torch.int32).cpu().numpy().astype(np.int32))


def _polish(run: _Extraction, base: Tensor, axis: Tensor, ends: Tensor) -> Tensor:
    """Where each edge crosses the true field, (V,) in 0..1: false position with the Illinois rule (Dowell, Jarratt 1971)."""
    low, high = torch.zeros(len(base), device=run.device), torch.ones(len(base), device=run.device)
    at_low, at_high = ends.unbind(1)
    along = low + at_low / (at_low - at_high)
    closed = (ends <= 0.5 * OUTSIDE).any(1)  # edges out of the box stay on its border
    rows = torch.arange(len(base), device=run.device)
    for _ in range(run.settings.polish):
        points = base.float()
        points[rows, axis] += along
        here = run.ask(run.positions(points))
        same = (here > 0) == (at_low > 0)
        low, high = torch.where(same, along, low), torch.where(same, high, along)
        at_low, at_high = torch.where(same, here, at_low * 0.5), torch.where(same, at_high * 0.5, here)
        next_along = low + (high - low) * at_low / (at_low - at_high)
        along = torch.where(closed | ~torch.isfinite(next_along), along, next_along)
    return along
