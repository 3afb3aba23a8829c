# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain radiance-field step: dense grid, `grid_sample`, colour network at every sample, autograd, one batch after another."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as functional
from maquette.core.fields.sparse_grid import ViewColour
from maquette.core.fit.bounds import focus_box, hull_box
from maquette.core.fit.occupancy import grid_shape, visual_hull
from maquette.core.fit.radiance import rays_of
from maquette.core.poses.frame import common_point
from maquette.core.types import View

SAMPLES = 48
"""Per ray, as in DVGO's fine stage at this size."""


def plain_points_per_second(
    views: list[View], resolution: int, steps: int, rays_per_step: int = 4096
) -> float:
    """Forward, backward and Adam on a dense grid; only samples in the visual hull are counted, and only they are evaluated."""
    box = hull_box(views, focus_box(views, common_point([view.camera for view in views])))
    shape = grid_shape(box, resolution)
    occupied = visual_hull(views, box, shape)
    table = torch.zeros(1, 16, *(n + 1 for n in shape), requires_grad=True)
    colour = ViewColour(12)
    optimiser = torch.optim.Adam([table, *colour.parameters()], lr=0.05)
    rays = rays_of(views, 0)
    size = float((box[1] - box[0]).max()) / max(shape)
    limits = torch.tensor(shape)
    counted, began = 0, 0.0
    for step in range(steps + 1):
        if step == 1:  # the first is warm-up
            counted, began = 0, time.monotonic()
        batch = rays[torch.randint(len(rays), (rays_per_step,))]
        a, b = (box[0] - batch.origins) / batch.directions, (box[1] - batch.origins) / batch.directions
        near, far = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
        along = near[:, None] + (far - near).clamp(min=0)[:, None] * (torch.arange(SAMPLES) + 0.5) / SAMPLES
        points = batch.origins[:, None] + batch.directions[:, None] * along[..., None]
        units = (points - box[0]) / size
        whole = torch.minimum(units.long().clamp(min=0), limits - 1)
        inside = occupied[whole[..., 0], whole[..., 1], whole[..., 2]]
        where = (units[inside] / limits * 2 - 1).flip(-1)[None, None, None]
        values = functional.grid_sample(table, where, align_corners=True)[0, :, 0, 0].T
        directions = batch.directions[:, None].expand_as(points)[inside]
        rgb = values[:, 1:4] + colour(values[:, 4:], directions)
        density = torch.zeros(inside.shape).masked_scatter(
            inside, functional.softplus(values[:, 0] * 8 - 3) * 30
        )
        alpha = 1 - torch.exp(-density * ((far - near).clamp(min=0) / SAMPLES)[:, None])
        light = torch.cumprod(torch.cat([torch.ones(len(alpha), 1), 1 - alpha[:, :-1]], 1), 1)
        weight = alpha * light
        shaded = torch.zeros(*inside.shape, 3).masked_scatter(inside[..., None], rgb)
        loss = ((weight[..., None] * shaded).sum(1) - batch.rgb).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        counted += int(inside.sum())
    return counted / (time.monotonic() - began)
