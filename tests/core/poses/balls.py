# SPDX-License-Identifier: GPL-3.0-or-later
"""A made scene for the diffusion-wrapped field: three coloured balls photographed from all around, and settings that take a second."""

from __future__ import annotations

import math

import torch
from maquette.core.poses.diffusion.cameras import Poses, looking_at_origin
from maquette.core.poses.diffusion.pictures import Pictures, local_rays
from maquette.core.poses.diffusion.settings import DiffusionSettings
from maquette.core.poses.diffusion.training import RADIUS

TINY = DiffusionSettings(
    candidates=8, canvas=16, width=8, steps=20, images=2, rays=32, probe_rays=8, samples=16, cells=16,
    restarts=1, polish_steps=4,
)  # fmt: skip


def three_balls(views: int = 12) -> tuple[Pictures, Poses]:
    """`photos` as training sees them."""
    pixels, poses = photos(views)
    return Pictures.of(pixels, 16, 1.4, True), poses


def photos(views: int) -> tuple[list[torch.Tensor], Poses]:
    """Pictures (4, 32, 32) of a red, a green and a blue ball of different sizes, focal length 1.4 widths, and their cameras."""
    turns = torch.arange(views) * (2 * math.pi / views)
    poses = looking_at_origin(turns, 0.3 + 0.5 * (torch.arange(views) % 3) / 2, RADIUS)
    local = local_rays(32, torch.arange(32 * 32), 1.4)
    pixels = []
    for row in range(views):
        rays = local @ poses.rotation[row].T
        picture, nearest = torch.zeros(4, 1024), torch.full((1024,), 99.0)
        for colour, (place, radius) in enumerate(
            [((0.7, 0, 0), 0.45), ((-0.3, 0.6, 0.2), 0.35), ((0, -0.5, 0.5), 0.3)]
        ):
            to = torch.tensor(place) - poses.centre[row]
            along = rays @ to
            away = to.square().sum() - along.square()
            hit = (away < radius**2) & (along < nearest)
            nearest[hit] = along[hit]
            picture[:3, hit], picture[colour, hit], picture[3, hit] = 0.1, 0.9, 1.0
        pixels.append(picture.view(4, 32, 32))
    return pixels, poses
