# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras from a trained encoder: votes over noise levels, refinement against the field, confidence (spec A.11)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .cameras import Poses, mean_rotation
from .noise import add_noise
from .training import RADIUS, Trainer
from .volume import Frustum, Volume

VOTES = (0, 20, 20, 50, 50, 80, 80)
"""Noise levels at which the encoder is asked."""
STEADY_DEG = 5.0
"""Spread of the votes that divides a confidence by e."""


@dataclass(frozen=True)
class Reading:
    """Per picture, all (M,)."""

    poses: Poses
    probability: Tensor
    """Of the chosen candidate, mean over the votes."""
    margin: Tensor
    """To the second."""
    entropy: Tensor
    """Of the mean probabilities, over log N; 0 for a single camera."""
    spread_deg: Tensor
    """Of the votes' rotations, root mean square."""


@torch.no_grad()
def read(trainer: Trainer, votes: tuple[int, ...] = VOTES) -> Reading:
    """Ask the encoder for all pictures; the autoencoder is asked once, for the clean ones."""
    canvas = trainer.pictures.canvas
    votes = votes if trainer.settings.denoise else (0,)
    poses, chances = [], []
    for level in votes:
        t = torch.full((len(canvas),), level)
        noise = torch.randn(canvas.shape, generator=trainer.generator)
        found, log_p = trainer.mode.poses(trainer.smoothed(add_noise(canvas, t, noise), t))
        poses.append(found)
        chances.append(log_p.exp())
    mean = torch.stack(chances).mean(0)  # (M, N)
    best = mean.argmax(1)
    rows = torch.arange(len(best))
    rotations = torch.stack([found.rotation[rows, best] for found in poses])  # (V, M, 3, 3)
    rotation = mean_rotation(rotations)
    centre = torch.stack([found.centre[rows, best] for found in poses]).mean(0)
    pose = Poses(rotation, centre)
    away = torch.stack([pose.angle_to(found[rows, best]) for found in poses])
    ordered = torch.cat([mean, torch.zeros_like(mean[:, :1])], 1).sort(1, descending=True).values
    entropy = -(mean * mean.clamp_min(1e-9).log()).sum(1) / max(math.log(mean.shape[1]), 1.0)
    spread = torch.rad2deg(away.square().mean(0).sqrt())
    return Reading(pose, ordered[:, 0], ordered[:, 0] - ordered[:, 1], entropy, spread)


def refine(
    trainer: Trainer,
    poses: Poses,
    check: Callable[[float], None],
    steps: int = 100,
    rate: float = 5e-3,
    rays: int = 64,
) -> Poses:
    """Cameras that fit the frozen field better: Adam on six numbers each (BARF's protocol at test time).

    Args:
        trainer: its field, pictures and noise.
        poses: (M,) starts for all pictures.
        check: told the share done; raises Cancelled.
        rate: radians, and orbit radii or near depths, per step at the start; falls to a fiftieth.
    """
    scale = torch.ones(6)
    scale[3:] = RADIUS if trainer.settings.orbit else 1.0
    move = torch.zeros(len(poses.centre), 6, requires_grad=True)
    optimiser = torch.optim.Adam([move], lr=rate)
    everything = torch.arange(len(poses.centre))
    trainer.volume.requires_grad_(False)
    try:
        for number in range(steps):
            check(number / steps)
            optimiser.param_groups[0]["lr"] = rate * 0.02 ** (number / steps)
            loss = trainer.ray_errors(poses.moved(move * scale, trainer.mode.pivot), everything, rays).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    finally:
        trainer.volume.requires_grad_(True)
    return poses.moved(move.detach() * scale, trainer.mode.pivot)


def polish(trainer: Trainer, poses: Poses, check: Callable[[float], None]) -> Poses:
    """Field and cameras free together, finer and finer, without the encoder (BARF from a good start); our addition.

    A forward-facing field starts anew: the old one holds the wrong depths that went with the wrong cameras.
    """
    settings, pictures, space = trainer.settings, trainer.pictures, trainer.volume.space
    stages: tuple[tuple[float, int, int], ...]
    stages = ((0.0, 64, 2 * settings.cells // 3), (0.5, 128, settings.cells))
    if isinstance(space, Frustum):
        stages = ((0.0, 32, 24), (0.15, 64, 48), (0.35, 128, 2 * settings.cells // 3))
        trainer.volume = Volume(space, stages[0][2], trainer.generator, background=True)
    scale = torch.ones(6)
    scale[3:] = RADIUS if settings.orbit else 1.0
    move = torch.zeros(len(poses.centre), 6, requires_grad=True)
    camera_rate, field_rate = (2e-3, 0.01) if settings.orbit else (4e-3, 0.02)
    cameras = torch.optim.Adam([move], lr=camera_rate)
    count, rays = (16, 128) if settings.orbit else (16, 64)
    at = -1
    for number in range(settings.polish_steps):
        share = number / settings.polish_steps
        check(share)
        stage = max(k for k, row in enumerate(stages) if row[0] <= share)
        if stage != at:
            at = stage
            trainer.volume.refine(stages[at][2])
            trainer.fixed_side = pictures.level(stages[at][1])
            field = torch.optim.Adam(trainer.volume.parameters(), lr=field_rate, betas=(0.9, 0.98))
        field.param_groups[0]["lr"] = field_rate * 0.2**share
        cameras.param_groups[0]["lr"] = camera_rate * 0.5 * (1 + math.cos(math.pi * share))
        chosen = trainer.used[torch.randperm(len(trainer.used), generator=trainer.generator)[:count]]
        moved = poses[chosen].moved(move[chosen] * scale, trainer.mode.pivot)
        loss = trainer.ray_errors(moved, chosen, rays).mean()
        loss = loss + 0.5 * settings.smooth * trainer.volume.roughness()
        field.zero_grad(set_to_none=True)
        cameras.zero_grad(set_to_none=True)
        loss.backward()
        field.step()
        cameras.step()
    moved = poses.moved(move.detach() * scale, trainer.mode.pivot)
    # Pictures that were held out stayed where they were while the field moved: coarse pictures catch them.
    trainer.fixed_side = pictures.level(32)
    moved = relocate(trainer, moved)
    for side, rate in ((32, 1e-2), (64, 3e-3), (128, 2e-3)):
        trainer.fixed_side = pictures.level(side)
        moved = refine(trainer, moved, lambda share: check(1.0), steps=50, rate=rate)
    return moved


@torch.no_grad()
def relocate(trainer: Trainer, poses: Poses, draws: int = 96) -> Poses:
    """Pictures that fit twice as badly as half of them are searched for: at all other cameras, then around the best place.

    The encoder knows pictures that it learned from; one that was held out it may place 10 degrees off, beyond what a gradient
    brings back.
    """
    count = len(poses.centre)
    own = trainer.ray_errors(poses, torch.arange(count), 256)
    rotation, centre = poses.rotation.clone(), poses.centre.clone()
    scale = torch.ones(6)
    scale[3:] = RADIUS if trainer.settings.orbit else 1.0
    for row in (own > 2 * own.median()).nonzero()[:, 0]:
        starts = Poses(
            torch.cat([poses.rotation[row : row + 1], poses.rotation]),
            torch.cat([poses.centre[row : row + 1], poses.centre]),
        )
        best = _best_of(trainer, starts, int(row))
        for reach in (0.2, 0.1, 0.05, 0.025):
            steps = reach * torch.randn(draws, 6, generator=trainer.generator) * scale
            steps[0] = 0
            around = Poses(best.rotation.expand(draws, 3, 3), best.centre.expand(draws, 3))
            best = _best_of(trainer, around.moved(steps, trainer.mode.pivot), int(row))
        rotation[row], centre[row] = best.rotation[0], best.centre[0]
    return Poses(rotation, centre)


def _best_of(trainer: Trainer, poses: Poses, picture: int) -> Poses:
    """(1,) the camera under which a picture has the least error."""
    errors = trainer.ray_errors(poses, torch.full((len(poses.centre),), picture), 256)
    best = int(errors.argmin())
    return poses[best : best + 1]


@torch.no_grad()
def picture_psnr(trainer: Trainer, poses: Poses, side: int) -> Tensor:
    """(M,) dB of the renders of all cameras beside the pictures, over white, at a level of `side` pixels."""
    from .sampling import draw

    side = trainer.pictures.level(side)
    out = []
    for row in range(len(poses.centre)):
        target = trainer.pictures.levels[side][row]
        shown = draw(trainer, poses[row : row + 1], side).flatten(1).T  # (P, 3)
        wanted = target[:, :3] + (1 - target[:, 3:4])
        error = ((shown - wanted).square() * target[:, 4:]).sum() / (3 * target[:, 4].sum()).clamp_min(1.0)
        out.append(-10 * torch.log10(error.clamp_min(1e-10)))
    return torch.stack(out)


def confidence(reading: Reading, psnr: Tensor) -> Tensor:
    """(M,) 0..1: c = p_max exp(-spread / 5 degrees) clamp((PSNR - 15) / 10) (spec A.11)."""
    return reading.probability * torch.exp(-reading.spread_deg / STEADY_DEG) * ((psnr - 15) / 10).clamp(0, 1)
