# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a textured mesh reproduces a photo through its camera: the two numbers an artist sees in the panel."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..render.shade import render_textured
from ..types import Mesh, View


def match_view(mesh: Mesh, texture: NDArray[np.float32], view: View, longest: int = 640) -> dict[str, float]:
    """Render the mesh through the view's camera and compare, at no more than `longest` pixels on the long side.

    Args:
        mesh: has UVs.
        texture: (S, S, 3) float32 sRGB.
        view: a view without mask compares only colours, where the mesh shows.
        longest: pixels.

    Returns:
        `silhouette_iou` 0..1 (1 without a mask) and `photo_psnr` in dB over pixels that lie in mask and mesh (99 at most;
        0 where there are none).
    """
    scale = min(1.0, longest / max(view.camera.width, view.camera.height))
    size = (max(1, round(view.camera.width * scale)), max(1, round(view.camera.height * scale)))
    with torch.inference_mode():
        rgb, alpha = render_textured(mesh, torch.as_tensor(texture), view.camera.resized(*size))
    photo = cv2.resize(view.rgb, size, interpolation=cv2.INTER_AREA)
    covered = alpha.numpy() > 0.5
    valid = np.ones_like(covered) if view.valid is None else cv2.resize(view.valid, size) > 0.5
    iou = 1.0
    inside = covered & valid
    if view.mask is not None:
        mask = (cv2.resize(view.mask, size, interpolation=cv2.INTER_AREA) > 0.5) & valid
        union = (mask | inside).sum()
        iou = float((mask & inside).sum() / union) if union else 0.0
        inside &= mask
    if not inside.any():
        return {"silhouette_iou": iou, "photo_psnr": 0.0}
    error = float(np.mean((rgb.numpy()[inside] - photo[inside]) ** 2))
    return {"silhouette_iou": iou, "photo_psnr": min(99.0, -10 * math.log10(max(error, 1e-12)))}
