# SPDX-License-Identifier: GPL-3.0-or-later
"""Points of cameras that are known: matches that lie on the epipolar lines, joined to tracks and triangulated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from ..cameras.distortion import undistort
from .bundle_adjustment import refine_points
from .match_check import epipolar_px
from .sfm_process import Pair
from .sparse_model import SparseModel

Floats = NDArray[np.float64]


def triangulate(
    images: Sequence[str],
    poses: Floats,
    lens_of_image: NDArray[np.int32],
    lenses: Floats,
    pairs: Sequence[Pair],
    keypoints: dict[str, NDArray[np.float32]],
    epipolar: float = 4.0,
    error_px: float = 4.0,
    angle_deg: float = 1.5,
    mapper: str = "",
) -> SparseModel:
    """Points that the matches and the cameras agree on.

    Args:
        images: names of N pictures.
        poses: (N, 3, 4) world-to-camera.
        lens_of_image: (N,) rows of `lenses`.
        lenses: (C, 8), see `SparseModel`.
        pairs: verified matches; pictures that are not in `images` are left out.
        keypoints: feature positions per picture.
        epipolar: distance from the epipolar line, pixels, up to which a match counts.
        error_px: largest reprojection error that stays.
        angle_deg: smallest angle under which a point must be seen.
        mapper: noted in the model.

    Returns:
        The model; without points where nothing agrees. Colours are grey.
    """
    row = {name: number for number, name in enumerate(images)}
    rays = [_rays(lenses[lens_of_image[i]], keypoints[name]) for i, name in enumerate(images)]
    focal = np.sqrt(lenses[:, 0] * lenses[:, 1])[lens_of_image]
    start = np.concatenate([[0], np.cumsum([len(r) for r in rays])])
    links = [np.zeros((0, 2), np.int64)]
    for pair in pairs:
        if pair.a not in row or pair.b not in row:
            continue
        a, b = row[pair.a], row[pair.b]
        first, second = rays[a][pair.matches[:, 0]], rays[b][pair.matches[:, 1]]
        miss = epipolar_px(poses[a], poses[b], first, second) * np.sqrt(focal[a] * focal[b])
        links.append(pair.matches[miss < epipolar].astype(np.int64) + [start[a], start[b]])
    image_of, point_of, feature_of = _tracks(np.concatenate(links), start)
    count = int(point_of.max()) + 1 if len(point_of) else 0
    here = (
        np.stack([rays[i][f] for i, f in zip(image_of, feature_of, strict=True)])
        if count
        else np.zeros((0, 2))
    )
    model = SparseModel(
        images=list(images),
        poses=poses,
        lens_of_image=lens_of_image,
        lenses=lenses,
        points=_nearest_points(poses, image_of, point_of, here, count),
        colors=np.full((count, 3), 128, np.uint8),
        image_of=image_of,
        point_of=point_of,
        feature_of=feature_of,
        pixels=np.array(
            [keypoints[images[i]][f] for i, f in zip(image_of, feature_of, strict=True)], np.float64
        ).reshape(-1, 2),
        mapper=mapper,
    )
    for limit in (3 * error_px, error_px):
        if not len(model.points):
            return model
        model = refine_points(model)
        model = model.keep(np.linalg.norm(model.residuals(), axis=1) < limit)
    return model.keep((model.angles_deg() > angle_deg)[model.point_of])


def _rays(lens: Floats, pixels: NDArray[np.float32]) -> Floats:
    fx, fy, cx, cy, k1, k2, p1, p2 = lens.tolist()
    return undistort((pixels.astype(np.float64) - [cx, cy]) / [fx, fy], (k1, k2, p1, p2))


def _tracks(
    links: NDArray[np.int64], start: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Image, track and feature of each observation; of several features of one image in a track none is believed."""
    total = int(start[-1])
    graph = scipy.sparse.coo_matrix((np.ones(len(links), bool), (links[:, 0], links[:, 1])), (total, total))
    label = connected_components(graph, directed=False)[1]
    used = np.unique(links)
    track, image = label[used], np.searchsorted(start, used, "right") - 1
    _, place, count = np.unique(
        track.astype(np.int64) * len(start) + image, return_inverse=True, return_counts=True
    )
    single = count[place] == 1
    used, track, image = used[single], track[single], image[single]
    _, place, count = np.unique(track, return_inverse=True, return_counts=True)
    kept = count[place] >= 2
    _, point_of = np.unique(track[kept], return_inverse=True)
    feature = used[kept] - start[image[kept]]
    return image[kept].astype(np.int32), point_of.astype(np.int32), feature.astype(np.int32)


def _nearest_points(
    poses: Floats, image_of: NDArray[np.int32], point_of: NDArray[np.int32], rays: Floats, count: int
) -> Floats:
    """(count, 3) points nearest to their rays, least squares."""
    directions = np.concatenate([rays, np.ones((len(rays), 1))], 1)
    directions = np.einsum("mji,mj->mi", poses[image_of][:, :, :3], directions)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    centres = -np.einsum("nji,nj->ni", poses[:, :, :3], poses[:, :, 3])[image_of]
    across = np.eye(3) - directions[:, :, None] * directions[:, None]
    normal, right = np.zeros((count, 3, 3)), np.zeros((count, 3))
    np.add.at(normal, point_of, across)
    np.add.at(right, point_of, np.einsum("mij,mj->mi", across, centres))
    return np.asarray(np.linalg.solve(normal + 1e-9 * np.eye(3), right[..., None])[..., 0])
