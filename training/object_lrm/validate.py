# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores on the validation objects, in each picture's own frame, without alignment but for a shift in depth."""

from __future__ import annotations

import numpy as np
import torch
from maquette.core.models.lrm.object_lrm import ObjectLRM, inflation

from .dataset import Records

CLOSE = 0.078
"""A tenth of half the object's longest side, half sides of the window: the distance of F@0.1."""


@torch.no_grad()
def validate(model: ObjectLRM, held: Records, count: int = 176, view: int = 0) -> dict[str, float]:
    """Means over the first `count` validation objects.

    Returns:
        front, back: mean error of the layers after the median shift; close: share of both layers' pixels that is right within
        `CLOSE`; inflated: the same for the inflated mask; colour: L1 behind; elevation: median error, degrees.
    """
    whole = held.firsts("validation", count, view)
    device = next(model.parameters()).device
    rows, elevations = [], []
    for index in torch.arange(len(whole.hit)).split(32):
        batch = whole.rows(index)
        said = model(batch.image.to(device))
        start_depth = _inflated(batch.image)
        for i, hit in enumerate(batch.hit):
            gap = (said.depth[i].cpu() - batch.depth[i])[:, hit]
            gap = (gap - gap.median()).abs()
            plain = (start_depth[i] - batch.depth[i])[:, hit]
            plain = (plain - plain.median()).abs()
            colour = (said.behind[i].cpu() - batch.behind[i])[:, hit].abs().mean()
            close, before = (gap < CLOSE).float().mean(), (plain < CLOSE).float().mean()
            rows.append([gap[0].mean(), gap[1].mean(), close, before, colour])
        up = torch.nn.functional.normalize(said.stance[:, :3].cpu(), dim=1)
        wrong = torch.asin(up[:, 1].clamp(-1, 1)) - torch.asin(batch.stance[:, 1].clamp(-1, 1))
        elevations += np.degrees(wrong.abs().numpy()).tolist()
    names = ("front", "back", "close", "inflated", "colour")
    means = {name: round(float(value), 4) for name, value in zip(names, np.mean(rows, 0), strict=True)}
    return means | {"elevation": round(float(np.median(elevations)), 2)}


def _inflated(image: torch.Tensor) -> torch.Tensor:
    """The layers of the inflated mask, (B, 2, S, S)."""
    half = inflation(image[:, 3])[:, 1].clamp(min=0)
    return torch.stack([-half, half], 1)
