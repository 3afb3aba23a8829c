# SPDX-License-Identifier: GPL-3.0-or-later
"""New views from a trained system: along a path, and from Gaussian noise (spec A.11)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .cameras import Poses, looking_at_origin
from .noise import STEPS, implicit_step
from .pictures import local_rays
from .training import Trainer, render

SAMPLES = 96
"""Per ray of a picture that is shown."""


@torch.no_grad()
def draw(trainer: Trainer, pose: Poses, side: int, samples: int = SAMPLES) -> Tensor:
    """The field from one camera, poses (1,): (3, side, side) sRGB 0..1, over white where it is empty."""
    rays = local_rays(side, torch.arange(side * side), trainer.focal)
    parts = []
    for part in rays.split(8192):
        rgb, opacity = render(trainer.volume, pose, part[None], samples)
        if trainer.volume.background is None:
            rgb = rgb + (1 - opacity)[..., None]
        parts.append(rgb[0])
    return torch.cat(parts).clamp(0, 1).T.reshape(3, side, side)


@torch.no_grad()
def from_noise(trainer: Trainer, generator: torch.Generator, steps: int = 50) -> tuple[Poses, Tensor]:
    """A camera and its view out of pure noise, by DDIM.

    The encoder reads a camera out of the noisy picture, the field's render from there is the estimate of the clean
    picture, and the noise is taken down a step. While there is much noise the candidate is drawn by its probability.

    Returns:
        Poses (1,) and the render (3, S, S) at the canvas's size, 0..1.
    """
    side = trainer.settings.canvas
    noisy = torch.randn(1, 3, side, side, generator=generator)
    levels = torch.linspace(STEPS, 0, steps + 1).round().long().tolist()
    for now, then in zip(levels, levels[1:], strict=False):
        poses, log_p = trainer.mode.poses(trainer.smoothed(noisy, torch.tensor([now])))
        if now > 0.7 * STEPS:
            chosen = int(torch.multinomial(log_p.exp()[0], 1, generator=generator))
        else:
            chosen = int(log_p[0].argmax())
        pose = poses[:, chosen]
        shown = draw(trainer, pose, side)
        noisy = implicit_step(noisy, 2 * shown[None] - 1, now, then)
    return pose, shown


def orbit_path(poses: Poses, frames: int = 120) -> Poses:
    """(frames,) once around at the mean elevation and distance of given cameras."""
    distance = poses.centre.norm(dim=1)
    elevation = torch.asin((poses.centre[:, 2] / distance).clamp(-1, 1)).mean()
    azimuth = torch.arange(frames) * (2 * math.pi / frames)
    return looking_at_origin(azimuth, elevation.expand(frames), float(distance.mean()))


def spiral_path(poses: Poses, frames: int = 120, turns: int = 2) -> Poses:
    """(frames,) a spiral before a forward-facing scene, half as wide as four fifths of the cameras reach (spec A.11).

    The cameras look at a point on the middle camera's axis at three quarters of the way from the near plane to the far in
    1 / z.
    """
    from .volume import FAR, NEAR

    middle = poses.centre.mean(0)
    reach = 0.5 * torch.quantile((poses.centre - middle).abs(), 0.8, dim=0)
    angle = torch.arange(frames) * (2 * math.pi * turns / frames)
    offset = torch.stack([angle.cos(), -angle.sin(), 0.5 * (0.5 * angle).sin()], -1) * reach
    depth = 1 / (1 / NEAR + 0.75 * (1 / FAR - 1 / NEAR))
    forward = torch.nn.functional.normalize(poses.rotation[:, :, 2].mean(0), dim=0)
    down = poses.rotation[:, :, 1].mean(0)
    axis = torch.nn.functional.normalize(middle + depth * forward - middle - offset, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(down.expand_as(axis), axis), dim=-1)
    return Poses(torch.stack([right, torch.linalg.cross(axis, right), axis], -1), middle + offset)
