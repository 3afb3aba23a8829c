# SPDX-License-Identifier: GPL-3.0-or-later
"""Places pictures that a model lacks, or had in a wrong place, against its points."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..cameras.distortion import undistort
from .sfm_process import Pair
from .sparse_model import SparseModel

ERROR_PX = 8.0
"""Of the RANSAC; the mapper's own is 12, the model is finished here."""
FEWEST = 15


def add_images(
    model: SparseModel,
    lens_rows: dict[str, int],
    pairs: list[Pair],
    keypoints: dict[str, NDArray[np.float32]],
    seed: int,
) -> SparseModel:
    """Add every picture of `lens_rows` that the points can place; each new one helps the next.

    Args:
        model: finished model.
        lens_rows: picture to place -> row of `model.lenses`.
        pairs: verified matches.
        keypoints: feature positions per picture.
        seed: of the RANSAC.

    Returns:
        The model with new images at the end and their observations; unchanged where none could be placed.
    """
    waiting = dict(lens_rows)
    while waiting:
        found = {name: _correspondences(model, name, pairs) for name in waiting}
        name = max(sorted(waiting), key=lambda n: len(found[n]))
        if len(found[name]) < FEWEST:
            break
        placed = _place(model, found[name], keypoints[name], waiting.pop(name), seed)
        if placed is not None:
            model = _with_image(model, name, lens_rows[name], *placed, keypoints[name])
    return model


def _correspondences(model: SparseModel, name: str, pairs: list[Pair]) -> NDArray[np.int32]:
    """(K, 2) feature of the picture, point of the model; one point per feature, the one that most neighbours name."""
    row = {image: number for number, image in enumerate(model.images)}
    found: list[NDArray[np.int32]] = []
    for pair in pairs:
        if name not in (pair.a, pair.b):
            continue
        other = pair.b if pair.a == name else pair.a
        if other not in row:
            continue
        mine, theirs = pair.matches.T if pair.a == name else pair.matches[:, ::-1].T
        seen = model.image_of == row[other]
        point = np.full(max(int(theirs.max()), int(model.feature_of[seen].max(initial=0))) + 1, -1, np.int32)
        point[model.feature_of[seen]] = model.point_of[seen]
        has = point[theirs] >= 0
        found.append(np.stack([mine[has], point[theirs][has]], 1))
    if not found:
        return np.zeros((0, 2), np.int32)
    rows, votes = np.unique(np.concatenate(found), axis=0, return_counts=True)
    order = np.lexsort((-votes, rows[:, 0]))
    rows = rows[order]
    return rows[np.unique(rows[:, 0], return_index=True)[1]]


def _place(
    model: SparseModel, links: NDArray[np.int32], pixels: NDArray[np.float32], lens_row: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]] | None:
    """Pose (3, 4) and the links that agree with it, or None."""
    fx, fy, cx, cy, k1, k2, p1, p2 = model.lenses[lens_row].tolist()
    rays = undistort((pixels[links[:, 0]].astype(np.float64) - [cx, cy]) / [fx, fy], (k1, k2, p1, p2))
    points = model.points[links[:, 1]]
    cv2.setRNGSeed(seed)
    found, turn, shift, inliers = cv2.solvePnPRansac(
        points, rays, np.eye(3), None, iterationsCount=3000, reprojectionError=ERROR_PX / fx, confidence=0.9999,
        flags=cv2.SOLVEPNP_AP3P,
    )  # fmt: skip
    if not found or inliers is None or len(inliers) < max(FEWEST, 0.25 * len(links)):
        return None
    kept = inliers[:, 0]
    turn, shift = cv2.solvePnPRefineLM(points[kept], rays[kept], np.eye(3), None, turn, shift)
    pose = np.hstack([cv2.Rodrigues(turn)[0], shift])
    local = points @ pose[:, :3].T + pose[:, 3]
    error = np.linalg.norm(local[:, :2] / local[:, 2:] - rays, axis=1) * fx
    good = (error < ERROR_PX) & (local[:, 2] > 0)
    return (pose, links[good]) if good.sum() >= FEWEST else None


def _with_image(
    model: SparseModel, name: str, lens_row: int, pose: NDArray[np.float64], links: NDArray[np.int32],
    pixels: NDArray[np.float32],
) -> SparseModel:  # fmt: skip
    return replace(
        model,
        images=[*model.images, name],
        poses=np.concatenate([model.poses, pose[None]]),
        lens_of_image=np.append(model.lens_of_image, np.int32(lens_row)),
        image_of=np.append(model.image_of, np.full(len(links), len(model.images), np.int32)),
        point_of=np.append(model.point_of, links[:, 1]),
        feature_of=np.append(model.feature_of, links[:, 0]),
        pixels=np.concatenate([model.pixels, pixels[links[:, 0]].astype(np.float64)]),
    )
