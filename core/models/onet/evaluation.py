# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures of Occupancy Networks: distances, normal consistency, intersection over union (supplementary 2).

Published "Chamfer-L1" numbers are ten times these (unit: a tenth of the longest edge of the bounding box).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.floating[Any]]


def compare_clouds(
    predicted: Floats, target: Floats, predicted_normals: Floats, target_normals: Floats
) -> dict[str, float]:
    """Distances and normal consistency of two point clouds.

    Args:
        predicted, target: (N, 3) and (M, 3) points of the same frame.
        predicted_normals, target_normals: normals of any length.

    Returns:
        accuracy (prediction to target) and completeness (target to prediction): mean nearest distances; the same
        squared with suffix 2; chamfer-L1 and chamfer-L2: means of the pairs; normals ...: mean absolute cosines.
        An empty prediction gives distances sqrt(3), squares 3, normals -1, as published.
    """
    if not len(predicted):
        far = {"accuracy": 3.0**0.5, "completeness": 3.0**0.5, "accuracy2": 3.0, "completeness2": 3.0}
        normals = dict.fromkeys(("normals completeness", "normals accuracy", "normals"), -1.0)
        return far | {"chamfer-L1": 3.0**0.5, "chamfer-L2": 3.0} | normals
    completeness, complete_cosine = _nearest(target, target_normals, predicted, predicted_normals)
    accuracy, accurate_cosine = _nearest(predicted, predicted_normals, target, target_normals)
    means = {
        "completeness": completeness.mean(),
        "accuracy": accuracy.mean(),
        "completeness2": np.square(completeness).mean(),
        "accuracy2": np.square(accuracy).mean(),
        "normals completeness": complete_cosine.mean(),
        "normals accuracy": accurate_cosine.mean(),
    }
    means["chamfer-L1"] = 0.5 * (means["completeness"] + means["accuracy"])
    means["chamfer-L2"] = 0.5 * (means["completeness2"] + means["accuracy2"])
    means["normals"] = 0.5 * (means["normals completeness"] + means["normals accuracy"])
    return {name: float(value) for name, value in means.items()}


def f_score(accuracy: Floats, completeness: Floats, threshold: float) -> float:
    """Harmonic mean of precision and recall at a distance (ConvONet evaluates 1 %, 1.5 % and 2 %).

    Args:
        accuracy, completeness: nearest distances of every predicted and every target point.
        threshold: distance that counts as a hit.
    """
    precision, recall = (accuracy <= threshold).mean(), (completeness <= threshold).mean()
    return float(2 * precision * recall / max(precision + recall, 1e-12))


def intersection_over_union(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Occupancies (B, N) -> (B,) |a and b| / |a or b|."""
    return (a & b).sum(-1) / (a | b).sum(-1)


def points_inside(vertices: Floats, faces: NDArray[np.integer[Any]], points: Floats) -> NDArray[np.bool_]:
    """(N,) whether a ray along +z and one along -z both cross the mesh an odd number of times.

    Args:
        vertices, faces: the mesh, (V, 3) and (F, 3).
        points: (N, 3).
    """
    triangles = np.asarray(vertices, np.float64)[faces]
    above, below = np.zeros(len(points), np.int64), np.zeros(len(points), np.int64)
    order = np.argsort(points[:, 0], kind="stable")
    xs = points[order, 0]
    starts = np.searchsorted(xs, triangles[:, :, 0].min(1))
    counts = np.searchsorted(xs, triangles[:, :, 0].max(1), "right") - starts
    for chunk in np.array_split(np.arange(len(faces)), 1 + counts.sum() // 4_000_000):
        t = np.repeat(chunk, counts[chunk])
        within = np.arange(len(t)) - np.repeat(np.cumsum(counts[chunk]) - counts[chunk], counts[chunk])
        p = order[np.repeat(starts[chunk], counts[chunk]) + within]
        hit, height = _crossing_height(triangles[t], points[p])
        np.add.at(above, p[hit & (height > points[p, 2])], 1)
        np.add.at(below, p[hit & (height <= points[p, 2])], 1)
    return (above % 2 == 1) & (below % 2 == 1)


def _crossing_height(triangles: Floats, points: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Whether the vertical line through each point meets its triangle (N, 3, 3), and at which z."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    u, v, w = (_area(x, y, points) for x, y in ((b, c), (c, a), (a, b)))
    total = u + v + w
    hit = (total != 0) & (((u > 0) & (v > 0) & (w > 0)) | ((u < 0) & (v < 0) & (w < 0)))
    height = (u * a[:, 2] + v * b[:, 2] + w * c[:, 2]) / np.where(total == 0, 1.0, total)
    return hit, height


def _area(a: Floats, b: Floats, p: Floats) -> Floats:
    """Twice the signed area of the triangles a b p seen along z."""
    area: Floats = (a[:, 0] - p[:, 0]) * (b[:, 1] - p[:, 1]) - (a[:, 1] - p[:, 1]) * (b[:, 0] - p[:, 0])
    return area


def _nearest(
    source: Floats, source_normals: Floats, target: Floats, target_normals: Floats
) -> tuple[Floats, Floats]:
    """Distance of each source point to the target cloud and absolute cosine between the two normals."""
    distance, index = cKDTree(target).query(source)
    cosine = np.abs((_unit(source_normals) * _unit(target_normals)[index]).sum(-1))
    return distance, cosine


def _unit(x: Floats) -> Floats:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
