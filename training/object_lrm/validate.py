# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores on the validation objects, in each picture's own frame, without alignment: IoU of the solids, F-score of the surfaces."""

from __future__ import annotations

import numpy as np
import torch
from maquette.core.models.lrm.object_lrm import ObjectLRM
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from .dataset import Records, one_view, stacked

GRID = 48


@torch.no_grad()
def validate(
    model: ObjectLRM, held: Records, count: int = 32, level: float = 0.0, view: int = 0
) -> dict[str, float]:
    """Means over the first `count` validation objects.

    Returns:
        iou: of inside and outside at the free points; f10: F-score at 0.1 of half the object's longest side, as
        `mesh_score.py` counts but without alignment; colour: L1 at surface points; elevation: median error, degrees.
    """
    objects = [record for shard in held.shards["validation"].values() for record in shard[:]][:count]
    rows = [_one(model, record, level, view) for record in objects]
    means = np.mean([row[:3] for row in rows], 0)
    elevation = np.median([row[3] for row in rows])
    names = ("iou", "f10", "colour", "elevation")
    return {name: round(float(value), 4) for name, value in zip(names, [*means, elevation], strict=True)}


def _one(model: ObjectLRM, record: np.void, level: float, view: int) -> tuple[float, float, float, float]:
    device = next(model.parameters()).device
    batch = stacked([one_view(record, view, np.random.default_rng(0))])
    field, stance = model.field(batch.image[0].to(device))
    frame = record["frames"][view].astype(np.float64)
    free = torch.from_numpy(record["free"].astype(np.float64) @ frame[:, :3].T + frame[:, 3]).float()
    keep = (free.abs() <= 1).all(1)
    found = field.raw(free[keep].to(device))[:, 0].cpu().numpy() > level
    true = (record["free_distance"] < 0)[keep.numpy()]
    iou = (found & true).sum() / max((found | true).sum(), 1)
    colour = torch.sigmoid(field.raw(batch.surface[0].to(device))[:, 1:]).cpu() - batch.colour[0]
    up = record["up"][view]
    elevation = abs(stance.elevation - np.degrees(np.arcsin(np.clip(-up[1], -1, 1))))
    surface = record["surface"].astype(np.float64) @ frame[:, :3].T + frame[:, 3]
    half = np.linalg.norm(frame[0, :3]) / 2
    return (
        float(iou),
        f_score(grid_surface(field, level), surface, 0.1 * half),
        float(colour.abs().mean()),
        float(elevation),
    )


def grid_surface(field, level: float, samples: int = 4000) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Points on the surface of a field, (N, 3); empty where there is none."""
    axis = torch.linspace(-1, 1, GRID, device=field.planes.device)
    values = field.raw(torch.cartesian_prod(axis, axis, axis))[:, 0].view(GRID, GRID, GRID).cpu().numpy()
    padded = np.pad(values, 1, constant_values=-10.0)
    if padded.max() <= level:
        return np.zeros((0, 3))
    vertices, faces, _, _ = marching_cubes(padded, level)
    corners = ((vertices - 1) / (GRID - 1) * 2 - 1)[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    rng = np.random.default_rng(0)
    chosen = corners[rng.choice(len(corners), samples, p=area / area.sum())]
    weights = rng.dirichlet([1, 1, 1], samples)
    return (chosen * weights[..., None]).sum(1)


def f_score(found: np.ndarray, true: np.ndarray, limit: float) -> float:
    """Harmonic mean of precision and recall at a distance."""
    if not len(found):
        return 0.0
    precision = (cKDTree(true).query(found)[0] < limit).mean()
    recall = (cKDTree(found).query(true)[0] < limit).mean()
    return float(2 * precision * recall / max(precision + recall, 1e-9))
