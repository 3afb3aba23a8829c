# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit a `SparseGrid` radiance field to photos, from coarse to fine.

Each stage works on a finer grid, or the same, over fewer cells: after a stage, cells that gave no training ray any colour are dropped.
The length is a number of samples, not seconds, so that the same input gives the same field on any machine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..errors import FailedError
from ..fields.sparse_grid import Cells, SparseGrid, ViewColour, interpolate
from ..progress import Progress
from ..render.samples import ray_weights
from ..render.volume import camera_rays
from ..types import View
from .batch import Batch, Composite, Interpolate, Rays
from .occupancy import grid_shape, grow, refine
from .supply import BatchSupply

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitSettings:
    """How long and how finely a field is fitted."""

    resolution: int = 256
    """Cells along the longest side of the box at the last stage."""
    points: float = 1.0e9
    """Samples to spend in all stages together."""
    features: int = 12
    """View features per vertex."""
    rate: float = 0.07
    """Adam's rate for the table at the start of each stage."""
    smooth_density: float = 0.0
    """Weight of squared differences between neighbouring vertices (total variation, L2), density column."""
    bend_density: float = 1e-7
    """Weight of the squared Laplacian of the density column (thin plate): bumps cost, slopes do not."""
    smooth_colour: float = 1e-7
    """The first, for colour and features."""
    cached_samples: float = 6e6
    """Samples kept ready in memory, about 130 bytes each."""
    batch_samples: int = 350_000
    """Samples per step."""
    fullness: float = 1e-9
    """Gradient that raises every density: of surfaces that explain the photos alike, the outer one (hull prior)."""
    exposure: bool = False
    """Fit a colour gain per photo: phones change their exposure from shot to shot."""
    seed: int = 0


STAGES = (
    (0.125, 0.08, 0.10),
    (0.25, 0.17, 0.10),
    (0.5, 0.36, 0.10),
    (1.0, 0.17, 0.10),
    (1.0, 0.22, 0.0),
)
"""Per stage: resolution as a share of the last, share of the points, smallest weight on any ray for a cell to stay.

The last resolution has two: once the surface is found in it, half of its cells and of the samples along a ray go.
"""


def rays_of(views: list[View], seed: int, limit: int = 4_000_000, margin_px: int = 3) -> Rays:
    """Rays of all pixels that may show the object: within `margin_px` of the mask, or all valid ones where there is none.

    At most `limit` are kept, drawn at random.
    """
    generator = torch.Generator().manual_seed(seed)
    share = min(1.0, limit / max(1, sum(view.rgb.shape[0] * view.rgb.shape[1] for view in views)))
    parts = []
    for number, view in enumerate(views):
        height, width = view.rgb.shape[:2]
        alpha = torch.ones(height, width) if view.mask is None else torch.from_numpy(view.mask)
        kernel = 2 * margin_px + 1
        wanted = functional.max_pool2d((alpha > 0.02).float()[None, None], kernel, 1, margin_px)[0, 0] > 0.5
        if view.valid is not None:
            wanted &= torch.from_numpy(view.valid) > 0.5
        index = wanted.flatten().nonzero()[:, 0]
        if share < 1.0:
            index = index[torch.rand(len(index), generator=generator) < share]
        origins, directions = camera_rays(view.camera, index)
        rgb = torch.from_numpy(view.rgb).reshape(-1, 3)[index]
        a = alpha.flatten()[index]
        parts.append((origins, directions, rgb * a[:, None], a, torch.full((len(index),), number)))
    return Rays(*(torch.cat(column) for column in zip(*parts, strict=True)))


def fit_radiance(
    views: list[View],
    box: Tensor,
    occupied: Tensor,
    settings: FitSettings,
    progress: Progress,
    device: torch.device,
    preview: Callable[[SparseGrid], None] | None = None,
) -> SparseGrid:
    """Fit a field to the views inside the box.

    Args:
        views: working pictures with pinhole cameras; masks, where given, are known opacity.
        box: (2, 3) float32.
        occupied: (nx, ny, nz) bool over the box: where to begin (visual hull, depth maps, or everything).
        preview: called with the field after each step; it decides itself when to look.

    Raises:
        FailedError: FIT_EMPTY when nothing of the object is left.
    """
    torch.manual_seed(settings.seed)
    rays = rays_of(views, settings.seed)
    gains = torch.zeros(len(views), 3, device=device, requires_grad=True)
    decoder = ViewColour(settings.features).to(device)
    field: SparseGrid | None = None
    spent, stayed = 0.0, occupied
    for share, points, keep in STAGES:
        shape = grid_shape(box, max(16, round(settings.resolution * share)))
        # What stayed was grown by a coarse cell; it must not leave the region that was given.
        live = refine(stayed, shape) & refine(occupied, shape)
        cells = Cells(box.to(device), live.to(device))
        table = _first_table(cells, settings) if field is None else _finer_table(field, cells)
        field = SparseGrid(cells, table.requires_grad_(True), decoder)
        budget = points * settings.points
        supply = BatchSupply(
            field, rays, settings.cached_samples, settings.batch_samples, budget, settings.seed
        )
        if not supply.ready:
            raise FailedError(
                "FIT_EMPTY",
                "Nothing of the object is left in the pictures.",
                "Check the masks and the region box.",
            )
        log.info("stage %s: %d vertices, %d batches, %.1f samples a ray", shape, len(cells), len(supply.ready),
                 sum(b.sample_count for b in supply.ready) / sum(len(b.rays) for b in supply.ready))  # fmt: skip
        stage = _Stage(field, supply, gains, settings, budget, last=keep == 0)
        for done in stage.steps():
            progress.update(spent + points * done)
            if preview is not None:
                preview(field)
        spent += points
        field.table = field.table.detach()
        if keep > 0:
            stayed = _still_seen(field, supply.ready, keep).cpu()
        del supply, stage  # before the next ones are made: they are most of the memory
    decoder.requires_grad_(False)
    assert field is not None
    return field


def _first_table(cells: Cells, settings: FitSettings) -> Tensor:
    table = 0.1 * torch.randn(len(cells), 4 + settings.features)
    table[:, 0] = 0.0
    table[:, 1:4] = 0.5
    return table.to(cells.box.device)


def _finer_table(field: SparseGrid, cells: Cells) -> Tensor:
    empty = torch.zeros(field.table.shape[1], device=field.table.device)
    empty[0], empty[1:4] = -0.1, 0.5
    return field.cells.resample(field.table, cells.positions(), empty)


class _Stage:
    """The optimisation on one grid."""

    def __init__(
        self,
        field: SparseGrid,
        supply: BatchSupply,
        gains: Tensor,
        settings: FitSettings,
        points: float,
        last: bool,
    ) -> None:
        self.field, self.supply, self.gains, self.settings = field, supply, gains, settings
        self.points, self.final_rate = points, 0.05 if last else 0.3
        groups = [
            {"params": [field.table], "rate": settings.rate},
            {"params": list(field.decoder.parameters()), "rate": 2e-3},
            {"params": [gains], "rate": 2e-3},
        ]
        self.optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.neighbours = field.cells.neighbours()
        weights = torch.full((field.table.shape[1],), settings.smooth_colour)
        weights[0] = settings.smooth_density
        self.smooth = weights.to(field.table.device)

    def steps(self) -> Iterator[float]:
        """Yield the share of the points spent so far, after each step."""
        spent = 0.0
        for batch, left in self.supply:
            share = spent / self.points
            for group in self.optimiser.param_groups:
                group["lr"] = group["rate"] * self.final_rate**share
            self._step(batch, smooth=left % 2 == 0)
            spent += batch.sample_count
            yield min(1.0, spent / self.points)
            if spent >= self.points:
                return

    def _step(self, batch: Batch, smooth: bool) -> None:
        colour, opacity = shade(self.field, batch)
        if self.settings.exposure:
            gains = self.gains - self.gains.mean(0)
            colour = colour * torch.exp(gains[batch.rays.view])
        # Against a random background only the true opacity gives the right colour.
        background = torch.rand(3, device=colour.device)
        difference = colour - batch.rays.rgb + (batch.rays.alpha - opacity)[:, None] * background
        loss = difference.square().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._regularise(smooth)
        self.optimiser.step()

    def _regularise(self, smooth: bool) -> None:
        """Add the gradients of the smoothness terms, in closed form, every other step, and of the hull prior."""
        table, gradient = self.field.table.detach(), self.field.table.grad
        assert gradient is not None
        if smooth:
            bent = table.mul(6).sub_(functional.embedding_bag(self.neighbours, table, mode="sum"))
            gradient.addcmul_(bent, self.smooth.expand_as(table))
            column = bent[:, :1].contiguous()
            twice = column * 6 - functional.embedding_bag(self.neighbours, column, mode="sum")
            gradient[:, 0] += self.settings.bend_density * twice[:, 0]
        gradient[:, 0] -= self.settings.fullness


def shade(field: SparseGrid, batch: Batch) -> tuple[Tensor, Tensor]:
    """Colours (R, 3) premultiplied by opacity (R,), differentiable in the field's table and decoder."""
    values: Tensor = Interpolate.apply(field.table, batch)  # type: ignore[no-untyped-call]
    depths = field.density(values[:, 0]) * batch.step
    features, opacity = Composite.apply(depths, values[:, 1:], batch.samples)  # type: ignore[no-untyped-call]
    return field.decode(features, batch.rays.directions), opacity


@torch.no_grad()
def _still_seen(field: SparseGrid, batches: list[Batch], keep: float) -> Tensor:
    """Cells (nx, ny, nz) bool that gave some ray a weight above `keep`, and their neighbours."""
    most = torch.zeros(field.cells.occupied.numel(), device=field.table.device)
    logits = field.table[:, :1].contiguous()
    for batch in batches:
        depths = field.density(interpolate(logits, batch.rows, batch.weights)[:, 0]) * batch.step
        weights = ray_weights(depths, batch.samples)[1]
        most.scatter_reduce_(0, batch.cell.long(), weights, "amax")
    return grow((most > keep).reshape(field.cells.occupied.shape))
