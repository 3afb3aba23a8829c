# SPDX-License-Identifier: GPL-3.0-or-later
"""From a mapper's model to cameras that can be trusted: misplaced images out, placed again, adjusted, checked by the photos."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .bundle_adjustment import Adjusted, adjust
from .match_check import MatchCheck, check_matches
from .photo_check import CheckView, check_photos
from .resection import add_images
from .sfm_process import SfmResult
from .sparse_model import SparseModel
from .working_copies import WorkingSet

log = logging.getLogger(__name__)

CHANCE = 0.06
"""What the photo check gives a wrong camera by chance: 0.03 to 0.05 measured (spec-pose C.8 asks for 0.05)."""
OUT_OF_LINE = 0.25
"""Share of the median image's photo check below which an image is misplaced while the others pass."""


@dataclass(frozen=True)
class Candidate:
    """A finished model with its evidence. Arrays run over the images of `model`."""

    model: SparseModel
    adjusted: Adjusted
    matches: MatchCheck
    photos: NDArray[np.float64]
    """(N,) share of the photo check, NaN where it cannot judge."""
    convicted: frozenset[str] = frozenset()
    """Images that had a place which their matches or photos refuted, and found no other."""

    @property
    def photo_mean(self) -> float:
        """Mean of the photo check over the images it can judge; 0 when it can judge none."""
        return float(np.nanmean(self.photos)) if np.isfinite(self.photos).any() else 0.0


def finish(
    model: SparseModel,
    found: SfmResult,
    working: WorkingSet,
    seed: int,
    check: Callable[[], None] = lambda: None,
    rounds: int = 3,
) -> Candidate | None:
    """Repair, adjust and check one model.

    Args:
        model: as the mapper left it.
        found: features and matches it was made from.
        working: the pictures.
        seed: of the resection.
        check: called often; raises when the artist cancels.
        rounds: how often misplaced images are taken out and placed again.

    Returns:
        The candidate, or None where fewer than two images or too few points are left.
    """
    lenses = LensTable(model, working)
    model = replace(model, lenses=lenses.values)
    convicted: set[str] = set()
    for last in (*[False] * (rounds - 1), True):
        evidence = check_matches(model, found.pairs, found.keypoints)
        if evidence.misplaced and not convicted:
            # A mapper's poses of small pictures can be off by a degree, which is many pixels: exact poses are judged.
            first = lenses.adjust(model, check).model
            again = check_matches(first, found.pairs, found.keypoints)
            if len(again.misplaced) < len(evidence.misplaced):
                model, evidence = first, again
        if evidence.misplaced:
            log.info(
                "%s: misplaced by their matches: %s",
                model.mapper,
                [model.images[i] for i in evidence.misplaced],
            )
            convicted |= {model.images[i] for i in evidence.misplaced}
            model = model.without(evidence.misplaced)
        if len(model.images) < 2 or len(model.points) < 20:
            return None
        if not last:
            model = add_images(model, lenses.missing(model), found.pairs, found.keypoints, seed)
        adjusted = lenses.adjust(model, check)
        model = adjusted.model
        evidence = check_matches(model, found.pairs, found.keypoints)
        photos = check_model(model, working, check)
        wrong = evidence.misplaced | _wrong_views(photos)
        if not wrong or last:
            break
        log.info("%s: misplaced by their photos: %s", model.mapper, [model.images[i] for i in wrong])
        convicted |= {model.images[i] for i in wrong}
        model = model.without(wrong)
        if len(model.images) < 2 or len(model.points) < 20:
            return None
    return Candidate(model, adjusted, evidence, photos, frozenset(convicted - set(model.images)))


def _wrong_views(photos: NDArray[np.float64]) -> set[int]:
    """Images that the photos contradict while they agree with the rest."""
    if not np.isfinite(photos).any() or float(np.nanmean(photos)) < 2 * CHANCE:
        return set()
    return set(np.flatnonzero(photos < max(CHANCE, OUT_OF_LINE * float(np.nanmedian(photos)))).tolist())


class LensTable:
    """Lens rows for all groups (or pictures), also those of images that the mapper did not register."""

    def __init__(self, model: SparseModel, working: WorkingSet) -> None:
        self._copies = {copy.name: copy for copy in working.copies}
        rows = {name: int(model.lens_of_image[i]) for i, name in enumerate(model.images)}
        group_row: dict[str, int] = {}
        for name, row in rows.items():
            group_row.setdefault(self._copies[name].group, row)
        values = list(model.lenses)
        # Other groups of pictures are most likely the same camera, turned or scaled: take over the field of view.
        share = np.median([model.lenses[row, 0] / max(self._size(group)) for group, row in group_row.items()])
        self._working = working
        for group, lens in working.lenses.items():
            if group not in group_row:
                focal = lens.focal if lens.known else float(share) * max(lens.width, lens.height)
                group_row[group] = len(values)
                values.append(np.array([focal, focal, lens.width / 2, lens.height / 2, 0, 0, 0, 0]))
        self.values = np.array(values)
        self._group_row = group_row
        owner = dict(zip(group_row.values(), group_row, strict=True))
        for name, row in rows.items():
            owner.setdefault(row, self._copies[name].group)
        self._owner = [owner[row] for row in range(len(values))]

    def _size(self, group: str) -> tuple[int, int]:
        lens = next(c for c in self._copies.values() if c.group == group)
        return lens.width, lens.height

    def missing(self, model: SparseModel) -> dict[str, int]:
        """Pictures that `model` lacks, with the lens row to place them with."""
        return {
            c.name: self._group_row[c.group] for c in self._copies.values() if c.name not in set(model.images)
        }

    def adjust(self, model: SparseModel, check: Callable[[], None]) -> Adjusted:
        """Bundle adjustment with what is known of each lens; an unknown focal is held by the mapper's, loosely."""
        lenses = [self._working.lenses[group] for group in self._owner]
        return adjust(
            model,
            sizes=np.array([[lens.width, lens.height] for lens in lenses]),
            focal=np.where(
                [lens.known for lens in lenses], [lens.focal for lens in lenses], model.lenses[:, 0]
            ),
            known=np.array([lens.known for lens in lenses]),
            check=check,
        )


def check_model(
    model: SparseModel, working: WorkingSet, check: Callable[[], None] = lambda: None
) -> NDArray[np.float64]:
    """(N,) photo check of a model's images on their thumbnails, undistorted."""
    copies = {copy.name: copy for copy in working.copies}
    common = _shared_points(model)
    views = []
    for number, name in enumerate(model.images):
        copy = copies[name]
        lens = model.lenses[model.lens_of_image[number]]
        height, width = copy.thumbnail.shape
        matrix = np.array([[lens[0], 0, lens[2]], [0, lens[1], lens[3]], [0, 0, 1]])
        matrix = np.diag([width / copy.width, height / copy.height, 1]) @ matrix
        half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # OpenCV: pixel centres at whole numbers
        grey = cv2.undistort(copy.thumbnail, matrix - half, lens[4:])
        mask = None if copy.mask is None else cv2.undistort(copy.mask, matrix - half, lens[4:])
        seen = model.point_of[model.image_of == number]
        depth = model.points[seen] @ model.poses[number, 2, :3] + model.poses[number, 2, 3]
        depth = depth[depth > 0]
        low, high = np.percentile(depth, [2, 98]) if len(depth) else (1.0, 2.0)
        views.append(
            CheckView(
                np.ascontiguousarray(grey), matrix, model.poses[number], 0.85 * float(low), 1.2 * float(high) + 1e-9,
                _neighbours(model, number, common[number]), mask,
            )
        )  # fmt: skip
    return check_photos(views, check=check)


def _shared_points(model: SparseModel) -> NDArray[np.int64]:
    """(N, N) number of points that two images have in common."""
    seen = np.zeros((len(model.images), len(model.points)), np.float32)
    seen[model.image_of, model.point_of] = 1
    return np.rint(seen @ seen.T).astype(np.int64)


def _neighbours(model: SparseModel, number: int, common: NDArray[np.int64], count: int = 4) -> list[int]:
    """Images that share most points with this one, at angles that tell depths apart (best near 10 degrees)."""
    middle = np.median(model.points[model.point_of[model.image_of == number]], axis=0)
    rays = middle - model.centres
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
    angle = np.degrees(np.arccos(np.clip(rays @ rays[number], -1, 1)))
    score = common * np.exp(-0.5 * (np.log(np.maximum(angle, 0.1) / 10.0) / 0.8) ** 2)
    score[number] = 0
    return [int(i) for i in np.argsort(-score, kind="stable")[:count] if score[i] > 0]
