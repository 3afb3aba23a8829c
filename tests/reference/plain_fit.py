# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain radiance-field fit, to compare speed at equal quality: dense grid in the visual hull (DVGO, eq. 5 to 9),
`grid_sample`, colour network at every sample, autograd, rays drawn anew for every step."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as functional
from maquette.core.fields.sparse_grid import ViewColour
from maquette.core.fit.batch import Rays
from maquette.core.fit.bounds import focus_box, hull_box
from maquette.core.fit.occupancy import grid_shape, visual_hull
from maquette.core.fit.radiance import rays_of
from maquette.core.poses.frame import common_point
from maquette.core.render.volume import camera_rays
from maquette.core.types import View
from numpy.typing import NDArray
from torch import Tensor

SAMPLES = 128
"""Per ray, before those outside the hull are dropped."""


class PlainField:
    """Density logit, diffuse colour and view features on every vertex of a dense grid."""

    def __init__(self, views: list[View], resolution: int, features: int = 12) -> None:
        self.box = hull_box(views, focus_box(views, common_point([view.camera for view in views])))
        shape = grid_shape(self.box, resolution)
        self.occupied = visual_hull(views, self.box, shape)
        self.limits = torch.tensor(shape)
        self.cell = float((self.box[1] - self.box[0]).max()) / max(shape)
        self.table = torch.zeros(1, 4 + features, *(n + 1 for n in shape))
        self.table[:, 1:4] = 0.5
        self.table.requires_grad_(True)
        self.colour = ViewColour(features)

    def render(self, rays: Rays) -> tuple[Tensor, Tensor, int]:
        """Colour (R, 3) premultiplied by opacity (R,), and the number of samples that were evaluated."""
        a, b = ((corner - rays.origins) / rays.directions for corner in self.box)
        near, far = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
        step = (far - near).clamp(min=0) / SAMPLES
        along = near[:, None] + step[:, None] * (torch.arange(SAMPLES) + 0.5)
        points = rays.origins[:, None] + rays.directions[:, None] * along[..., None]
        units = (points - self.box[0]) / self.cell
        whole = torch.minimum(units.long().clamp(min=0), self.limits - 1)
        inside = self.occupied[whole[..., 0], whole[..., 1], whole[..., 2]] & (step > 0)[:, None]
        where = (units[inside] / self.limits * 2 - 1).flip(-1)[None, None, None]
        values = functional.grid_sample(self.table, where, align_corners=True)[0, :, 0, 0].T
        directions = rays.directions[:, None].expand_as(points)[inside]
        rgb = values[:, 1:4] + self.colour(values[:, 4:], directions)
        density = torch.zeros(inside.shape).masked_scatter(
            inside, functional.softplus(values[:, 0] * 16 - 4.5)
        )
        alpha = 1 - torch.exp(-density * (step / self.cell)[:, None])
        light = torch.cumprod(torch.cat([torch.ones(len(alpha), 1), 1 - alpha[:, :-1]], 1), 1)
        weight = alpha * light
        shaded = torch.zeros(*inside.shape, 3).masked_scatter(inside[..., None], rgb)
        return (weight[..., None] * shaded).sum(1), weight.sum(1), int(inside.sum())

    @torch.no_grad()
    def on_white(self, views: list[View]) -> float:
        """Mean PSNR of renders on white against the pictures on white, dB."""
        found = []
        for view in views:
            assert view.mask is not None
            count = view.mask.size
            origins, directions = camera_rays(view.camera, torch.arange(count))
            nothing = torch.zeros(count)
            rays = Rays(origins, directions, nothing, nothing, nothing)
            parts = [self.render(rays[part]) for part in torch.arange(count).split(8192)]
            picture = torch.cat([colour + 1 - opacity[:, None] for colour, opacity, _ in parts])
            truth: NDArray[np.float32] = view.rgb * view.mask[..., None] + 1 - view.mask[..., None]
            found.append(-10 * np.log10(np.square(picture.numpy() - truth.reshape(-1, 3)).mean()))
        return float(np.mean(found))


def fit_plainly(
    views: list[View], resolution: int, rays_per_step: int = 4096
) -> Iterator[tuple[PlainField, float, int]]:
    """Yield the field, the seconds of fitting and the samples evaluated so far, after each step; without end."""
    began = time.monotonic()
    field = PlainField(views, resolution)
    optimiser = torch.optim.Adam(
        [{"params": [field.table], "lr": 0.07}, {"params": list(field.colour.parameters()), "lr": 2e-3}],
        betas=(0.9, 0.99), fused=True,
    )  # fmt: skip
    rays = rays_of(views, 0)
    counted, spent = 0, time.monotonic() - began
    while True:
        began = time.monotonic()
        batch = rays[torch.randint(len(rays), (rays_per_step,))]
        colour, opacity, count = field.render(batch)
        background = torch.rand(3)
        difference = colour - batch.rgb + (batch.alpha - opacity)[:, None] * background
        optimiser.zero_grad()
        difference.square().mean().backward()
        optimiser.step()
        counted += count
        spent += time.monotonic() - began
        yield field, spent, counted
