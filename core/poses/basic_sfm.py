# SPDX-License-Identifier: GPL-3.0-or-later
"""Structure from motion without pycolmap: OpenCV's features and solvers, our tracks and bundle adjustment.

For platforms that have no wheel of pycolmap (Intel macOS, Linux on ARM). One incremental mapper (spec-pose C.5), so grades
rest on the matches and on the photos. It yields what the child process yields, and everything after it is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..progress import Progress
from .bundle_adjustment import adjust
from .resection import add_images
from .sfm_process import Pair, SfmOptions, SfmResult
from .sparse_model import SparseModel
from .tracks import triangulate
from .working_copies import WorkingSet

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
RATIO = 0.8
"""Of the distances to the nearest and the second nearest descriptor (Lowe 2004, section 7.1)."""
FEWEST = 15
"""Inliers of a pair, as in COLMAP."""
ERROR_PX = 3.0
SIDE = 1200
"""Pictures are looked at with this long side at most (spec-pose C.5)."""
ROUNDS = 12
"""Of resection, triangulation and adjustment; each adds what the points of the last one can place."""


def run_basic_sfm(
    working: WorkingSet,
    options: SfmOptions,
    pairs: list[tuple[str, str]] | None,
    progress: Progress,
    span: tuple[float, float],
) -> SfmResult:
    """Features, matches and one model of the working pictures; arguments as in `sfm_process.run_sfm`.

    Raises:
        Cancelled.
    """

    def update(share: float) -> None:
        progress.update(span[0] + (span[1] - span[0]) * share, "finding cameras")

    keypoints: dict[str, NDArray[np.float32]] = {}
    descriptors: dict[str, NDArray[np.float32]] = {}
    for number, copy in enumerate(working.copies):
        update(0.3 * number / len(working.copies))
        keypoints[copy.name], descriptors[copy.name] = _features(working, copy.name, options)
    wanted = pairs if pairs is not None else list(combinations(sorted(keypoints), 2))
    matched: list[Pair] = []
    for number, (a, b) in enumerate(wanted):
        update(0.3 + 0.4 * number / len(wanted))
        pair = _match(a, b, keypoints, descriptors, options.seed)
        if pair is not None:
            matched.append(pair)
    model = _map(working, matched, keypoints, options.seed, lambda share: update(0.7 + 0.3 * share))
    update(1.0)
    return SfmResult([] if model is None else [model], keypoints, matched)


def _features(
    working: WorkingSet, name: str, options: SfmOptions
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(F, 2) positions and (F, 128) descriptors: SIFT, square roots of the L1-normalised values (Arandjelovic 2012)."""
    grey = _read(working.folder / "images" / name)
    mask_file = working.folder / "masks" / f"{name}.png"
    mask = _read(mask_file) if options.use_masks and mask_file.is_file() else None
    scale = min(1.0, SIDE / max(grey.shape))
    if scale < 1.0:
        size = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        mask = None if mask is None else cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    # OpenCV divides the threshold by the number of scales in an octave, 3.
    sift = cv2.SIFT.create(nfeatures=options.features, contrastThreshold=3 * options.peak, edgeThreshold=10)
    found, values = sift.detectAndCompute(grey, mask)
    if not found:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    places = (np.array([point.pt for point in found], np.float32) + 0.5) / scale
    roots = np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1e-6))
    return places, np.asarray(roots, np.float32)


def _read(path: object) -> NDArray[np.uint8]:
    """Grey picture from a path with any letters."""
    return np.asarray(cv2.imdecode(np.fromfile(str(path), np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


def _match(
    a: str,
    b: str,
    keypoints: dict[str, NDArray[np.float32]],
    descriptors: dict[str, NDArray[np.float32]],
    seed: int,
) -> Pair | None:
    """Mutual nearest neighbours that pass the ratio test and one fundamental matrix."""
    first, second = descriptors[a], descriptors[b]
    if len(first) < FEWEST or len(second) < FEWEST:
        return None
    alike = first @ second.T
    nearest = alike.argmax(1)
    rows = np.arange(len(first))
    best = alike[rows, nearest]
    mutual = alike.argmax(0)[nearest] == rows
    alike[rows, nearest] = -1.0
    # |p - q|^2 = 2 - 2 p.q for unit vectors
    clear = (2 - 2 * best) < RATIO**2 * (2 - 2 * alike.max(1))
    kept = np.flatnonzero(mutual & clear)
    if len(kept) < FEWEST:
        return None
    matches = np.stack([kept, nearest[kept]], 1).astype(np.int32)
    p, q = keypoints[a][matches[:, 0]].astype(np.float64), keypoints[b][matches[:, 1]].astype(np.float64)
    cv2.setRNGSeed(seed)
    _, inlier = cv2.findFundamentalMat(p, q, cv2.USAC_MAGSAC, ERROR_PX, 0.9999, 5000)
    if inlier is None or int(inlier.sum()) < FEWEST:
        return None
    inside = inlier.ravel() > 0
    _, flat = cv2.findHomography(p[inside], q[inside], cv2.RANSAC, ERROR_PX)
    planar = flat is not None and float(flat.mean()) > 0.8
    return Pair(a, b, "PLANAR_OR_PANORAMIC" if planar else "UNCALIBRATED", matches[inside])


def _map(
    working: WorkingSet,
    pairs: list[Pair],
    keypoints: dict[str, NDArray[np.float32]],
    seed: int,
    update: Callable[[float], None],
) -> SparseModel | None:
    """From the best pair outwards: place, triangulate, adjust."""
    groups = list(working.lenses)
    lenses = np.array([_lens(working, group) for group in groups])
    sizes = np.array([[working.lenses[group].width, working.lenses[group].height] for group in groups])
    known = np.array([working.lenses[group].known for group in groups])
    lens_row = {copy.name: groups.index(copy.group) for copy in working.copies}
    model = _first_model(pairs, keypoints, lenses, lens_row, seed)
    if model is None:
        return None
    for number in range(ROUNDS):
        update(number / ROUNDS)
        focal = np.where(known, lenses[:, 0], model.lenses[:, 0])
        model = adjust(model, sizes, focal, known, iterations=6).model
        missing = {name: row for name, row in lens_row.items() if name not in set(model.images)}
        grown = add_images(model, missing, pairs, keypoints, seed)
        settled = len(grown.images) == len(model.images)
        model = triangulate(
            grown.images,
            grown.poses,
            grown.lens_of_image,
            grown.lenses,
            pairs,
            keypoints,
            mapper="incremental",
        )
        if len(model.points) < 20:
            return None
        if settled and number:
            break
    log.info("basic mapper: %d of %d images", len(model.images), len(working.copies))
    return model


def _lens(working: WorkingSet, group: str) -> list[float]:
    lens = working.lenses[group]
    return [lens.focal, lens.focal, lens.width / 2, lens.height / 2, 0.0, 0.0, 0.0, 0.0]


def _first_model(
    pairs: list[Pair],
    keypoints: dict[str, NDArray[np.float32]],
    lenses: Floats,
    lens_row: dict[str, int],
    seed: int,
) -> SparseModel | None:
    """The pair with the most points under a clear angle, of the thirty with the most matches."""
    best: tuple[float, SparseModel] | None = None
    for pair in sorted(pairs, key=lambda p: (p.kind == "PLANAR_OR_PANORAMIC", -len(p.matches)))[:30]:
        rays = []
        for name, rows in ((pair.a, pair.matches[:, 0]), (pair.b, pair.matches[:, 1])):
            fx, fy, cx, cy = lenses[lens_row[name], :4]
            rays.append((keypoints[name][rows].astype(np.float64) - [cx, cy]) / [fx, fy])
        cv2.setRNGSeed(seed)
        limit = ERROR_PX / lenses[lens_row[pair.a], 0]
        a, b = rays
        essential, _ = cv2.findEssentialMat(a, b, np.eye(3), cv2.USAC_MAGSAC, 0.999, limit)
        if essential is None or essential.shape != (3, 3):
            continue
        _, rotation, shift, _ = cv2.recoverPose(essential, a, b, np.eye(3))
        poses = np.stack([np.eye(4)[:3], np.hstack([rotation, shift])])
        rows = np.array([lens_row[pair.a], lens_row[pair.b]], np.int32)
        model = triangulate([pair.a, pair.b], poses, rows, lenses, [pair], keypoints, mapper="incremental")
        if len(model.points) < 20:
            continue
        score = len(model.points) * min(float(np.median(model.angles_deg())), 15.0)
        if best is None or score > best[0]:
            best = score, model
    return None if best is None else best[1]
