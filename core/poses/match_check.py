# SPDX-License-Identifier: GPL-3.0-or-later
"""Do a model's cameras explain the matches between its pictures, also those that it threw away as outliers?

A mapper that misplaces an image drops its true matches and keeps a few false ones, at a small reprojection error. The
verified matches of the image with its neighbours still know better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cameras.distortion import undistort
from .sfm_process import Pair
from .sparse_model import SparseModel

EPIPOLAR_PX = 4.0
"""COLMAP's own threshold for two-view geometry."""
FEWEST = 20
"""Pairs with fewer matches are often chance."""


CONTRADICTED = 0.3
"""A pair with a smaller share of its matches on the epipolar lines speaks against the cameras."""
SUPPORTED = 0.5
MARGIN = 0.7
"""How much weaker evidence against a link counts than evidence for it. On a right model of the fox set false pairs reach
0.36 of the weakest true link of the chain they contradict; on the wrong one whole blocks hang on nothing."""


VOTE = 100
"""Matches of a pair that count at most: parts that look alike can give one false pair more matches than any true one (340
on lego_200, between its two sides), but not many pairs that agree."""


@dataclass(frozen=True)
class MatchCheck:
    """What the matches say about a model of N images."""

    share: NDArray[np.float64]
    """(N,) 0..1: of the matches with its neighbours, how many lie on the epipolar lines; NaN without neighbours.

    The median over neighbours, weighted by their matches up to `VOTE`, so that one wrong neighbour does not convict an
    image."""
    neighbours: NDArray[np.int64]
    """(N,) pictures of the model with at least `FEWEST` matches."""
    block: NDArray[np.int64]
    """(N,) images whose mutual places the matches support share a number; 0 is the largest block."""
    explained: float
    """Share of all matches that belong to supported pairs."""
    supported: int
    """Their number."""

    @property
    def misplaced(self) -> set[int]:
        """Images outside the largest block, and images that most of their matches speak against."""
        wrong = (self.block != 0) | (self.share < SUPPORTED)
        return set(np.flatnonzero(wrong).tolist())


def check_matches(
    model: SparseModel, pairs: list[Pair], keypoints: dict[str, NDArray[np.float32]]
) -> MatchCheck:
    """Compare all verified matches between pictures of `model` with its cameras."""
    row = {name: number for number, name in enumerate(model.images)}
    rays = {name: _rays(model, number, keypoints[name]) for name, number in row.items()}
    focal = np.sqrt(model.lenses[:, 0] * model.lenses[:, 1])[model.lens_of_image]
    edges: list[Edge] = []
    for pair in pairs:
        if len(pair.matches) < FEWEST or pair.a not in row or pair.b not in row:
            continue
        a, b = row[pair.a], row[pair.b]
        first, second = rays[pair.a][pair.matches[:, 0]], rays[pair.b][pair.matches[:, 1]]
        distance = epipolar_px(model.poses[a], model.poses[b], first, second) * np.sqrt(focal[a] * focal[b])
        edges.append((a, b, len(distance), float((distance < EPIPOLAR_PX).mean())))
    of_image: list[list[tuple[float, int]]] = [[] for _ in row]
    for a, b, count, share in edges:
        of_image[a].append((share, min(count, VOTE)))
        of_image[b].append((share, min(count, VOTE)))
    total = sum(edge[2] for edge in edges)
    supported = sum(edge[2] for edge in edges if edge[3] >= SUPPORTED)
    return MatchCheck(
        share=np.array([_weighted_median(item) for item in of_image]),
        neighbours=np.array([len(item) for item in of_image]),
        block=find_blocks(len(row), edges),
        explained=supported / total if total else 0.0,
        supported=supported,
    )


Edge = tuple[int, int, int, float]
"""Image, image, number of matches, share of them on the epipolar lines."""


def find_blocks(count: int, edges: list[Edge]) -> NDArray[np.int64]:
    """Group images by links in order of strength; two groups join only where more matches support that than contradict it.

    Single linkage with a vote (our choice): a mapper that folds a set onto itself leaves blocks that agree within
    themselves, while many strong pairs between the blocks contradict their mutual place. One false pair alone, of two
    sides that look alike, does not keep apart what two weaker true ones join.

    Args:
        count: number of images.
        edges: pairs with their matches.

    Returns:
        (count,) block numbers, 0 the largest.
    """
    label = np.arange(count)
    if edges:
        ends = np.array([edge[:2] for edge in edges])
        number = np.array([edge[2] for edge in edges], np.float64)
        votes = np.minimum(number, VOTE)
        share = np.array([edge[3] for edge in edges])
        vote = np.where(share >= SUPPORTED, votes, np.where(share < CONTRADICTED, -MARGIN * votes, 0.0))
        order = [int(i) for i in np.argsort(-number, kind="stable") if share[i] >= SUPPORTED]
        joined = True
        while joined:
            joined = False
            for i in order:
                one, other = label[ends[i, 0]], label[ends[i, 1]]
                if one == other:
                    continue
                first, second = label[ends[:, 0]], label[ends[:, 1]]
                between = ((first == one) & (second == other)) | ((first == other) & (second == one))
                if vote[between].sum() > 0:
                    label[label == other] = one
                    joined = True
    values, sizes = np.unique(label, return_counts=True)
    ranked = values[np.lexsort((values, -sizes))]
    return np.argsort(ranked)[np.searchsorted(np.sort(ranked), label)]


def epipolar_px(
    pose_a: NDArray[np.float64], pose_b: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sampson distance (Hartley and Zisserman, 2nd ed., eq. 11.9) of (M, 2) normalised rays, in units of the focal length.

    Args:
        pose_a: (3, 4) world-to-camera.
        pose_b: (3, 4) world-to-camera.
        a: (M, 2) x/z, y/z in camera a, undistorted.
        b: (M, 2) in camera b.
    """
    rotation = pose_b[:, :3] @ pose_a[:, :3].T
    t = pose_b[:, 3] - rotation @ pose_a[:, 3]
    t = t / max(float(np.linalg.norm(t)), 1e-12)
    essential = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]]) @ rotation
    ones = np.ones((len(a), 1))
    line_b = np.hstack([a, ones]) @ essential.T
    line_a = np.hstack([b, ones]) @ essential
    miss = (np.hstack([b, ones]) * line_b).sum(1)
    slope = (line_b[:, :2] ** 2).sum(1) + (line_a[:, :2] ** 2).sum(1)
    return np.abs(miss) / np.sqrt(np.maximum(slope, 1e-18))


def _rays(model: SparseModel, number: int, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    fx, fy, cx, cy, k1, k2, p1, p2 = model.lenses[model.lens_of_image[number]].tolist()
    return undistort((pixels.astype(np.float64) - [cx, cy]) / [fx, fy], (k1, k2, p1, p2))


def _weighted_median(items: list[tuple[float, int]]) -> float:
    if not items:
        return float("nan")
    ordered = sorted(items)
    total = np.cumsum([weight for _, weight in ordered])
    return ordered[int(np.searchsorted(total, total[-1] / 2))][0]
