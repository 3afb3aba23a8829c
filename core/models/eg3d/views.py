# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a generated head as views for the texture: sharper than the field's own colours (DESIGN section 1, `Picture`)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...progress import Progress
from ...types import View
from .cameras import camera_of, label_of, look_at
from .generator import Eg3d

AROUND = ((0.0, 0.0), (-0.4, 0.0), (0.4, 0.0), (-0.75, 0.0), (0.75, 0.0), (0.0, 0.3), (0.0, -0.3))
"""(yaw, pitch) in radians of the usual views; the published networks have hardly seen a head from farther round."""


def labels_around(
    network: Eg3d, angles: Iterable[tuple[float, float]] = AROUND, focal: float | None = None
) -> Tensor:
    """Labels (N, 25) of cameras at (yaw, pitch) from the front: positive yaw sees the subject's left side, positive pitch looks
    down on it.
    """
    rendering = network.config.rendering
    k = None if focal is None else np.array([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    poses = []
    for yaw, pitch in angles:
        v = math.pi / 2 * (1 - math.sin(pitch))  # `look_at` spaces v by height, not by angle
        pose = look_at(math.pi / 2 + yaw, v, rendering.avg_camera_pivot, rendering.avg_camera_radius)
        poses.append(torch.from_numpy(label_of(pose, k)))
    return torch.stack(poses)


def head_views(
    network: Eg3d,
    ws: Tensor,
    planes: Tensor,
    labels: Tensor,
    progress: Progress | None = None,
    masked: bool = False,
) -> list[View]:
    """The head as the generator shows it to some cameras.

    Args:
        network: the generator.
        ws: (1, rows, w_width).
        planes: (1, 3, C, S, S) of those rows; the same for every camera.
        labels: (N, 25).
        progress: told how far it is; asked whether to go on.
        masked: the rays' opacity is the views' mask, for generators with nothing behind their heads.

    Returns:
        One view per label, in the generator's frame; without a mask what stands behind the head is in the picture.
    """
    progress = progress or Progress()
    views = []
    with torch.no_grad():
        for number, label in enumerate(labels):
            progress.update(number / len(labels))
            rendered = network.render(planes, label[None].to(planes.device))
            image = network.picture(rendered, ws)[0]
            rgb = ((image + 1) / 2).clamp(0, 1).permute(1, 2, 0).float().cpu().numpy()
            camera = camera_of(label.cpu().numpy(), rgb.shape[0], f"view_{number:02d}")
            mask = None
            if masked:
                mask = (
                    F.interpolate(rendered.opacity, size=rgb.shape[:2], mode="bilinear")[0, 0]
                    .clamp(0, 1)
                    .cpu()
                    .numpy()
                )
            views.append(View(camera, rgb, mask))
    return views
