# SPDX-License-Identifier: GPL-3.0-or-later
"""The object in every photo: told from the table it stands on and from the room behind it.

Evidence against the object comes from the pattern of the carrying plane (`clean_plate`) or from a plain background
(`plain_background`). A visual hull carries it from picture to picture (`hull`), colours and edges settle the outline
(`cut_out`); then the plane is looked at again without what was found.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..progress import Progress
from ..types import SparseCloud, View
from .clean_plate import make_clean_plate
from .cut_out import cut_out
from .hull import Grid, Hull, carve, first_grid, silhouettes, stand, vote
from .plain_background import plain_evidence
from .region import Focus, ObjectRegion, choose_up, find_focus, find_plane, plane_points, scene_box

log = logging.getLogger(__name__)

Maps = list[NDArray[np.float32]]

WORKING_SIDE = 640
"""Long side in pixels at which masks are found; larger views get them enlarged."""
ROUNDS = 2
"""Times the plane is looked at again without the object (our choice: a third gains 0.001 of overlap)."""
DOUBTFUL_SHARE = 0.7
"""Share of the masks that must show a voxel while they are still in doubt."""
WHOLE = "No object could be told from its surroundings, so the whole scene was kept; give masks if that is not wanted."


def find_masks(views: list[View], cloud: SparseCloud, progress: Progress) -> tuple[Maps, ObjectRegion]:
    """Masks of the object that the photos circle around, and where it is.

    Views that already have a mask (from alpha or painted) keep it, and it helps to find the others.

    Args:
        views: undistorted pictures with their cameras.
        cloud: triangulated points in the same frame.
        progress: told how far it is; gets a warning where no object can be told, and asked to cancel.

    Returns:
        Per view (H, W) float32 0..1, 1 object; and the region. Without an object: ones, and `region.whole_scene`.
    """
    small = [_at_most(view, WORKING_SIDE) for view in views]
    cameras = [view.camera for view in small]
    focus = find_focus(cameras, cloud)
    plane = find_plane(cameras, cloud, focus)
    up = choose_up(focus, plane)
    progress.update(0.05)
    if all(view.mask is not None for view in views):
        masks: Maps = [view.mask for view in views if view.mask is not None]
        hull = _closer(
            [view.mask for view in small if view.mask is not None], views, first_grid(focus, up, None)
        )
    else:
        found, hull = _separate(small, cloud, focus, plane, up, progress)
        masks = [_enlarge(mask, view) for mask, view in zip(found, views, strict=hull is not None)]
    if hull is None:
        progress.warning(WHOLE)
        blank = [np.ones(view.rgb.shape[:2], np.float32) for view in views]
        return blank, ObjectRegion(scene_box(cloud, focus), up, plane, whole_scene=True)
    return masks, ObjectRegion(hull.box(), up, plane)


def _separate(
    views: list[View],
    cloud: SparseCloud,
    focus: Focus,
    plane: NDArray[np.float64] | None,
    up: NDArray[np.float64],
    progress: Progress,
) -> tuple[Maps, Hull | None]:
    """Masks at working size and the hull; None as hull where there is no object."""
    cameras = [view.camera for view in views]
    carried = plane_points(cloud, plane, focus) if plane is not None else np.zeros((0, 3))
    reach = 2.0 * focus.radius

    def look(masks: Maps | None, hull: Hull | None, front: NDArray[np.float64] | None) -> Maps | None:
        if plane is None:
            return None
        plate = make_clean_plate(views, plane, focus.centre, reach, carried, masks, hull, front)
        return [plate.evidence(view, gain) for view, gain in zip(views, plate.gains, strict=True)]

    plain = plain_evidence(views)
    evidence = plain if plain is not None else look(None, None, None)
    if evidence is None:
        return [], None
    evidence = _with_given(views, evidence)
    progress.update(0.25)
    floor = None if plain is not None else plane
    hull = carve(evidence, cameras, first_grid(focus, up if floor is None else floor[:3], floor), focus)
    if hull is None or _fills_pictures(hull, views):
        return [], None
    masks, doubtful, front = cut_out(views, silhouettes(hull, cameras), evidence, hull, progress)
    for number in range(ROUNDS):
        progress.update(0.4 + 0.6 * number / ROUNDS)
        again = vote(masks, cameras, hull.grid.finer(hull.occupied), DOUBTFUL_SHARE)
        if again is None:
            break
        hull = again
        if plain is None:
            evidence = _with_given(views, look(doubtful, hull, front) or evidence)
        feet = None
        if plane is not None and plain is None and number == ROUNDS - 1:
            feet = silhouettes(stand(hull, evidence, cameras), cameras)
        masks, doubtful, front = cut_out(views, silhouettes(hull, cameras), evidence, hull, progress, feet)
    given = [mask if view.mask is None else view.mask for mask, view in zip(masks, views, strict=True)]
    return given, vote(given, cameras, hull.grid.finer(hull.occupied)) or hull


def _closer(masks: Maps, views: list[View], grid: Grid) -> Hull | None:
    """The hull of masks, looked at twice, the second time from near."""
    cameras = [view.camera for view in views]
    coarse = vote(masks, cameras, grid)
    return None if coarse is None else vote(masks, cameras, grid.finer(coarse.occupied)) or coarse


def _with_given(views: list[View], evidence: Maps) -> Maps:
    """Masks that came with the photos are evidence beyond doubt."""
    return [
        plane if view.mask is None else np.where(view.mask > 0.5, 5.0, -3.0).astype(np.float32)
        for view, plane in zip(views, evidence, strict=True)
    ]


def _fills_pictures(hull: Hull, views: list[View]) -> bool:
    """True where "the object" covers nearly all of most pictures: then it is the scene."""
    cover = [float(plane.mean()) for plane in silhouettes(hull, [view.camera for view in views])]
    return float(np.median(cover)) > 0.85


def _at_most(view: View, side: int) -> View:
    height, width = view.rgb.shape[:2]
    scale = side / max(width, height)
    if scale >= 1.0:
        return view
    size = max(1, round(width * scale)), max(1, round(height * scale))

    def shrink(plane: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        if plane is None:
            return None
        return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)

    rgb = shrink(view.rgb)
    assert rgb is not None
    return replace(
        view, camera=view.camera.resized(*size), rgb=rgb, mask=shrink(view.mask), valid=shrink(view.valid)
    )


def _enlarge(mask: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """To the view's size with an edge of about a pixel."""
    height, width = view.rgb.shape[:2]
    factor = width / mask.shape[1]
    soft = cv2.GaussianBlur(mask, (0, 0), 0.7)
    if factor > 1.0:
        soft = cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip((soft - 0.5) * factor + 0.5, 0.0, 1.0), np.float32)
