# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores of the face parser on heads that it has not seen: IoU per part, presence, errors of the view."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from maquette.core.models.heads.codes import STYLES, groups
from maquette.core.models.heads.parser import ANGLE, PARTS, HeadParser
from torch import Tensor

from .dataset import Records, made


@torch.no_grad()
def validate(model: HeadParser, held: Records, easy: bool = False, batch: int = 32) -> dict[str, Any]:
    """All pictures once, made hard the way the training's are (`easy`: EG3D's crops as rendered, portraits only).

    IoU is of all pixels of all pictures, one number per part; errors are medians and means over present faces, angles in
    degrees, places and sizes in shares of the picture's and the face's side.
    """
    model.eval()
    counts = np.zeros((len(PARTS), len(PARTS)))
    said, true, codes, told = [], [], [], []
    generator = torch.Generator().manual_seed(7)
    for first in range(0, len(held), batch):
        index = np.arange(first, min(first + batch, len(held)))
        rows = held.rows(index)
        if easy:
            portrait = rows[1][:, 0] > 0.7
            rows = rows[0][portrait], rows[1][portrait], rows[2][portrait]
        made_batch = made(*rows, generator, easy)
        reading = model(made_batch.image)
        pairs = made_batch.parts * len(PARTS) + reading.parts.argmax(1)
        counts += np.bincount(pairs.flatten().numpy(), minlength=len(PARTS) ** 2).reshape(counts.shape)
        said.append(reading.view)
        true.append(made_batch.view)
        codes.append(made_batch.code)
        told.append(reading.code)
    both = np.diag(counts)
    iou = both / np.maximum(counts.sum(0) + counts.sum(1) - both, 1)
    return {
        "mean_iou": round(float(iou.mean()), 4),
        "iou": {name: round(float(v), 3) for name, v in zip(PARTS, iou, strict=True)},
        **view_errors(torch.cat(said), torch.cat(true)),
        **code_scores(torch.cat(told), torch.cat(codes)),
    }


def code_scores(said: Tensor, true: Tensor) -> dict[str, Any]:
    """Share of the variance of each group of normal numbers that is told, and how often styles are right; codes (N, WIDTH)."""
    known = ~true[:, 0].isnan()
    if not known.any():
        return {}
    said, true, out = said[known], true[known], {}
    for name, place in groups().items():
        if name in STYLES:
            right = said[:, place].argmax(1) == true[:, place].argmax(1)
            out[name] = round(float(right.float().mean()), 3)
        else:
            left = (said[:, place] - true[:, place]).square().mean() / true[:, place].square().mean()
            out[name] = round(float(1 - left), 3)
    return {"code": out}


def view_errors(said: Tensor, true: Tensor) -> dict[str, float]:
    """Views (N, 7), see `parser.VIEW`."""
    there = true[:, 0] > 0.5
    right = ((said[:, 0] > 0) == there).float().mean()
    gap = (said - true)[there].abs()
    angle = (rotations(said[there]) * rotations(true[there])).sum((1, 2))
    degrees = torch.rad2deg(((angle - 1) / 2).clamp(-1, 1).acos())
    return {
        "presence": round(float(right), 4),
        "place": round(float((gap[:, 1:3].norm(dim=1) / 2).mean()), 4),
        "size": round(float(gap[:, 3].mean()), 4),
        "roll": round(float(gap[:, 4].mean() * ANGLE), 2),
        "yaw": round(float(gap[:, 5].mean() * ANGLE), 2),
        "elevation": round(float(gap[:, 6].mean() * ANGLE), 2),
        "rotation": round(float(degrees.mean()), 2),
        "rotation_median": round(float(degrees.median()), 2),
        "within_3_degrees": round(float((degrees < 3).float().mean()), 3),
    }


def rotations(view: Tensor) -> Tensor:
    """(N, 3, 3) of the head as the camera sees it, up to a constant turn."""
    roll, yaw, elevation = (torch.deg2rad(view[:, k] * ANGLE) for k in (4, 5, 6))

    def turn(angle: Tensor, axis: int) -> Tensor:
        out = torch.eye(3).repeat(len(angle), 1, 1)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        out[:, a, a] = out[:, b, b] = angle.cos()
        out[:, b, a], out[:, a, b] = angle.sin(), -angle.sin()
        return out

    return turn(roll, 2) @ turn(elevation, 0) @ turn(yaw, 1)
