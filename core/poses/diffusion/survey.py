# SPDX-License-Identifier: GPL-3.0-or-later
"""A first field without any cameras: every picture is compared with renders from all around, in turn with fitting the field.

Our addition to the paper's training. It is the projection matching of electron microscopy (Penczek et al. 1994) with drawn
assignments whose temperature falls, on pictures of 16 to 20 pixels; a run takes seconds. The encoder then has something to
learn from at once, where probes of its own candidates need thousands of steps to break the symmetry.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .cameras import Poses, looking_at_origin
from .pictures import Pictures, local_rays
from .volume import Cube, Volume

SIDE = 16
"""Pixels of the compared pictures."""
CELLS, SAMPLES = 20, 24
AZIMUTHS, ELEVATIONS = 24, 6
"""Renders all around: every 15 degrees, on rows at 7.5 .. 82.5 degrees."""
ROUNDS = 30
WARM = 0.6
"""Share of the rounds after which pictures take their best camera instead of a drawn one."""


@dataclass(frozen=True)
class Survey:
    """What it found."""

    volume: Volume
    poses: Poses
    """(M,) one per picture."""
    error: float
    """Mean squared difference of the pictures and their renders."""


def survey(
    pictures: Pictures,
    half: float,
    radius: float,
    restarts: int,
    generator: torch.Generator,
    check: Callable[[float], None],
) -> Survey:
    """The best of several starts.

    Args:
        pictures: with masks.
        half: half the side of the cube that holds the object; radius: of the sphere of cameras.
        check: told the share done; raises Cancelled.
    """
    best: Survey | None = None
    for start in range(restarts):

        def tell(share: float, done: int = start) -> None:
            check((done + share) / restarts)

        found = _attempt(pictures, half, radius, generator, tell)
        if best is None or found.error < best.error:
            best = found
    assert best is not None
    return best


def _attempt(
    pictures: Pictures, half: float, radius: float, generator: torch.Generator, check: Callable[[float], None]
) -> Survey:
    volume = Volume(Cube(half), CELLS, generator, background=False)
    optimiser = torch.optim.Adam(volume.parameters(), lr=0.02, betas=(0.9, 0.98))
    side = pictures.level(SIDE)
    targets = pictures.levels[side][..., :4].flatten(1)  # (M, P * 4)
    local = local_rays(side, torch.arange(side * side), pictures.focal)
    for number in range(ROUNDS):
        check(number / ROUNDS)
        around = _all_around(radius, generator)
        errors = _errors(volume, around, local, targets)
        heat = 0.5 * max(0.0, 1 - number / (WARM * ROUNDS))
        if number + 1 == ROUNDS:
            best = errors.min(1)
            return Survey(volume, around[best.indices], float(best.values.mean()))
        chosen = around[_draw(errors, heat, generator)]
        for part in torch.randperm(len(pictures), generator=generator).split(20):
            rays = _rays(chosen[part], local)
            rgb, opacity = volume.render(*rays, SAMPLES, generator)
            found = torch.cat([rgb, opacity[:, None]], 1)
            loss = (found - targets[part].reshape(-1, 4)).square().mean() + 0.02 * volume.roughness()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    raise AssertionError("the last round returns")


def _all_around(radius: float, generator: torch.Generator) -> Poses:
    """Cameras over the upper half of the sphere, the lattice shifted at random."""
    shift = torch.rand(2, generator=generator) - 0.5
    row = 0.5 * math.pi / ELEVATIONS
    azimuth = (torch.arange(AZIMUTHS) + shift[0]) * (2 * math.pi / AZIMUTHS)
    elevation = (torch.arange(ELEVATIONS) + 0.5 + shift[1]) * row
    azimuth, elevation = torch.meshgrid(azimuth, elevation, indexing="ij")
    return looking_at_origin(azimuth.flatten(), elevation.flatten(), radius)


@torch.no_grad()
def _errors(volume: Volume, around: Poses, local: Tensor, targets: Tensor) -> Tensor:
    """(M, K) mean squared difference of every picture and the render of every camera."""
    rgb, opacity = volume.render(*_rays(around, local), SAMPLES)
    bank = torch.cat([rgb, opacity[:, None]], 1).view(len(around.centre), -1)
    squares = targets.square().sum(1)[:, None] + bank.square().sum(1)
    return (squares - 2 * targets @ bank.T) / targets.shape[1]


def _draw(errors: Tensor, heat: float, generator: torch.Generator) -> Tensor:
    """(M, K) -> (M,) a camera each, the better the likelier; heat in standard deviations of a picture's errors, 0: the best."""
    if heat == 0.0:
        return errors.argmin(1)
    scale = heat * errors.std(1, keepdim=True) + 1e-9
    return torch.multinomial(torch.softmax(-errors / scale, 1), 1, generator=generator)[:, 0]


def _rays(poses: Poses, local: Tensor) -> tuple[Tensor, Tensor]:
    """Every camera with every local direction (P, 3) -> origins, directions (B * P, 3)."""
    directions = torch.einsum("bij,pj->bpi", poses.rotation, local)
    return poses.centre[:, None].expand_as(directions).reshape(-1, 3), directions.reshape(-1, 3)
