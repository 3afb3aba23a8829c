# SPDX-License-Identifier: GPL-3.0-or-later
"""New views as files: frames along a path, and cameras drawn out of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...cameras import nerf_json
from ...types import Camera
from .cameras import Poses
from .sampling import draw, from_noise, orbit_path, spiral_path
from .training import Trainer

SIDE = 128
DRAWN = 4
"""Views that are drawn out of noise."""


def save_novel_views(trainer: Trainer, poses: Poses, folder: Path, frames: int) -> None:
    """Write `path_000.png` .. and `noise_0.png` .. of SIDE pixels, and transforms.json with their cameras."""
    folder.mkdir(exist_ok=True)
    path = orbit_path(poses, frames) if trainer.settings.orbit else spiral_path(poses, frames)
    shots = [(f"path_{number:03d}.png", path[number : number + 1]) for number in range(frames)]
    generator = torch.Generator().manual_seed(trainer.settings.seed)
    shots += [(f"noise_{number}.png", from_noise(trainer, generator)[0]) for number in range(DRAWN)]
    cameras = []
    for name, pose in shots:
        _save(draw(trainer, pose, SIDE), folder / name)
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = pose.rotation[0].numpy(), pose.centre[0].numpy()
        focal = trainer.focal * SIDE
        cameras.append(Camera(name, SIDE, SIDE, focal, focal, SIDE / 2, SIDE / 2, matrix))
    nerf_json.write(folder / "transforms.json", cameras, {})


def _save(picture: Tensor, path: Path) -> None:
    Image.fromarray((picture.permute(1, 2, 0) * 255 + 0.5).byte().numpy()).save(path)
