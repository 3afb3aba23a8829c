# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras that something else than features places roughly: by outlines; made exact by what features there are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..cameras.conventions import move_camera
from ..images.load import read_pixels
from ..images.plain_background import plain_evidence
from ..types import Camera, Photo, PoseEstimate, View
from .around_placed import place_around
from .candidate import LensTable
from .frame import common_point, find_ground
from .outline_ring import fit_ring, place_by_outline
from .sparse_model import SparseModel
from .structure_from_motion import Solution, estimate_from
from .tracks import triangulate

log = logging.getLogger(__name__)

Map = NDArray[np.float32]
SIDE, SEARCH_SIDE = 112, 256
"""Long side of outlines, pixels: for rings and hulls, and for photos that are searched for around the placed ones."""
FITS = 0.8
"""Overlap from which an outline says something about its camera; hulls of few views are larger than their object."""
WIDE = (0.03, 0.012, 0.005)
"""Distances from epipolar lines, over the long side, within which matches are believed in turn (spec-pose C.7: 12 of 504)."""


@dataclass(frozen=True)
class Approximation:
    """Cameras from one rung."""

    cameras: dict[str, Camera]
    """Photo name -> camera of the full-resolution photo; one frame."""
    method: str
    reason: str
    """What to say of a camera that nothing else confirms."""
    trusted: bool
    """Whether the set is worth grade C, else D."""


def find_outlines(
    photos: list[Photo], masks: Mapping[str, Map] | None, side: int = SIDE
) -> dict[str, Map] | None:
    """Photo -> outline of the object (h, w) 0..1, long side at most `side`; None without masks, alpha or a plain background."""
    views, out = [], {}
    for photo in photos:
        rgb, alpha = read_pixels(photo, side)
        mask = (masks or {}).get(photo.name, alpha)
        height, width = rgb.shape[:2]
        camera = Camera(photo.name, width, height, 1.0, 1.0, width / 2, height / 2, np.eye(4))
        if mask is None:
            views.append(View(camera, rgb))
        else:
            rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(int)
            columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(int)
            out[photo.name] = (mask[rows][:, columns] > 0.5).astype(np.float32)
    if views:
        evidence = plain_evidence(views)
        if evidence is None:
            return None
        out |= {v.camera.name: (e > 0).astype(np.float32) for v, e in zip(views, evidence, strict=True)}
    covered = [float(outline.mean()) for outline in out.values()]
    if min(covered) < 0.005 or max(covered) > 0.8:
        return None
    return {photo.name: out[photo.name] for photo in photos}


def around_by_outlines(
    photos: list[Photo], outlines: Mapping[str, Map], check: Callable[[], None]
) -> Approximation | None:
    """Cameras in a ring; None for fewer than six photos, whose outlines fit any ring."""
    if len(photos) < 6:
        return None
    known = [photo.focal_px / max(photo.width, photo.height) for photo in photos if photo.focal_px]
    focal = float(np.median(known)) if known else None
    fit = fit_ring([outlines[photo.name] for photo in photos], [photo.name for photo in photos], focal, check)
    log.info("ring by outlines: overlap %.3f", fit.iou)
    cameras = {p.name: c.resized(p.width, p.height) for p, c in zip(photos, fit.cameras, strict=True)}
    return Approximation(
        cameras, "outlines", "was placed by its outline alone, as one of a ring of cameras at equal steps",
        fit.iou > 0.9,
    )  # fmt: skip


def between_by_outlines(
    photos: list[Photo], found: PoseEstimate, outlines: Mapping[str, Map], check: Callable[[], None]
) -> Approximation | None:
    """The cameras found, and one for each other photo by its outline; None where no other outline fits."""
    placed = _around_origin(found, outlines)
    small = [camera.resized(*outlines[camera.name].shape[::-1]) for camera in placed]
    shapes = [outlines[camera.name] for camera in placed]
    cameras = {camera.name: camera for camera in placed}
    for photo in photos:
        if photo.name in cameras:
            continue
        fitted = place_by_outline(small, shapes, outlines[photo.name], check)
        if fitted is not None and fitted[1] >= FITS:
            log.info("%s by its outline: overlap %.3f", photo.name, fitted[1])
            cameras[photo.name] = replace(fitted[0], name=photo.name).resized(photo.width, photo.height)
    if len(cameras) == len(placed):
        return None
    reason = "was placed by its outline alone, between the cameras that features place"
    return Approximation(cameras, "outlines", reason, True)


def around_placed(
    photos: list[Photo],
    found: PoseEstimate,
    masks: Mapping[str, Map] | None,
    check: Callable[[], None],
    seed: int,
) -> Approximation | None:
    """The cameras found, and those of other photos by the object that the placed photos show; None where none fits."""
    outlines = find_outlines(photos, masks, SEARCH_SIDE)
    if outlines is None:
        return None
    placed = _around_origin(found, outlines)
    by_name = {photo.name: photo for photo in photos}
    cameras = {camera.name: camera for camera in placed}
    missing = [photo for photo in photos if photo.name not in cameras]
    added = place_around(missing, by_name, placed, outlines, check, seed)
    if not added:
        return None
    reason = (
        "was placed by what the other photos show of the object; its features are too few to confirm that"
    )
    return Approximation({**cameras, **added}, "renders", reason, True)


def _around_origin(found: PoseEstimate, outlines: Mapping[str, Map]) -> list[Camera]:
    """The cameras found, moved so that the object lies around the origin with a radius of about one and +Z is up."""
    middle = common_point(found.cameras)
    up = find_ground(found.cameras, found.cloud).up
    reach = [
        float(np.linalg.norm(c.centre - middle))
        * _half_size(outlines[c.name])
        * max(c.width, c.height)
        / c.fx
        for c in found.cameras
    ]
    axis = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    axis /= np.linalg.norm(axis)
    frame = np.eye(4)
    frame[:3, :3] = np.stack([axis, np.cross(up, axis), up]) / max(float(np.median(reach)), 1e-9)
    frame[:3, 3] = -frame[:3, :3] @ middle
    return [move_camera(camera, frame) for camera in found.cameras]


def _half_size(outline: Map) -> float:
    """Half the diagonal of an outline's frame over the long side of its picture."""
    rows, columns = np.nonzero(outline > 0.5)
    return 0.5 * float(np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1)) / max(outline.shape)


def improved_by_matches(
    photos: list[Photo], solution: Solution, rough: Approximation, seed: int, check: Callable[[], None]
) -> PoseEstimate | None:
    """Rough cameras after bundle adjustment on the matches that agree with them, checked and graded like any model.

    Returns:
        The better of this and of what the mappers had; None where too few matches agree.
    """
    working, found = solution.working, solution.found
    copies = [copy for copy in working.copies if copy.photo.name in rough.cameras]
    cameras = [rough.cameras[c.photo.name].resized(c.width, c.height) for c in copies]
    groups = list(working.lenses)
    values = [
        np.median(
            [camera.fx for camera, copy in zip(cameras, copies, strict=True) if copy.group == group]
            or [lens.focal]
        )
        for group, lens in working.lenses.items()
    ]
    lenses = np.array(
        [
            [f, f, lens.width / 2, lens.height / 2, 0, 0, 0, 0]
            for f, lens in zip(values, working.lenses.values(), strict=True)
        ]
    )
    rows = np.array([groups.index(copy.group) for copy in copies], np.int32)
    poses = np.array([camera.world_to_cam[:3] for camera in cameras])
    side = float(max(max(lens.width, lens.height) for lens in working.lenses.values()))
    model: SparseModel | None = None
    for share in WIDE:
        check()
        names = [copy.name for copy in copies] if model is None else model.images
        if model is not None:
            poses, rows, lenses = model.poses, model.lens_of_image, model.lenses
        wide = share * side
        joined = triangulate(
            names, poses, rows, lenses, found.pairs, found.keypoints, wide, wide, mapper=rough.method
        )
        count = np.bincount(joined.image_of, minlength=len(joined.images))
        joined = joined.without(set(np.flatnonzero(count < 8).tolist()))
        if len(joined.images) < 3 or len(joined.points) < 20:
            return None
        table = LensTable(joined, working)
        model = table.adjust(replace(joined, lenses=table.values), check).model
    assert model is not None
    log.info("%s and matches: %d images, %d points", rough.method, len(model.images), len(model.points))
    return estimate_from(photos, working, replace(found, models=[model, *found.models]), seed, check)
