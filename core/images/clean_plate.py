# SPDX-License-Identifier: GPL-3.0-or-later
"""The carrying plane as all photos together show it, and where a single photo shows something else.

A table's pattern and the shadows on it agree between photos when they are laid over each other in the plane; what
stands on the table does not. That tells object from table without any assumption about their colours (our choice;
background subtraction with a clean plate, as for a fixed camera, moved by homographies).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Camera, View
from .colours import colour_index, colour_odds, density, histogram
from .hull import Hull, frame_of

SAME = 0.05
"""Largest difference of a channel between photos that agree about a texel (sRGB 0..1)."""
SPAN = 0.8
"""Range over which colours of other things spread (length of an RGB difference)."""
BLUR = 0.8
"""Pixels; half a texel of misfit makes less difference then."""
GUESSED = 0.8
"""Weight of evidence from texels that only few photos, chosen by a hull, show."""
SIGHT_LINES = 4000
"""Lines of sight through the hull per photo."""
FOREIGN = 3.0
"""Log odds of the object's colours from which a texel under it is not believed."""
COVERED = 0.5
"""Log odds where the photos disagree about the plane: something stands before it in many of them."""


@dataclass
class CleanPlate:
    """A picture of the plane, texel by texel."""

    corner: NDArray[np.float64]
    """(3,) result's frame, corner of texel (0, 0)."""
    axes: NDArray[np.float64]
    """(2, 3) unit axes of columns and rows."""
    texel: float
    colours: NDArray[np.float32]
    """(N, N, 3) sRGB."""
    trusted: NDArray[np.float32]
    """(N, N) 1 where the photos agree, -1 where they do not, 0 where too few see the plane."""
    gains: NDArray[np.float32]
    """(V, 3) factor that brings each photo to the plate's exposure."""

    def to_view(self, camera: Camera) -> NDArray[np.float64]:
        """(3, 3) homography: texel index (x, y, 1) -> pixel index of the view, both with whole numbers at centres."""
        start = self.corner + 0.5 * self.texel * self.axes.sum(0)
        columns = np.stack([self.texel * self.axes[0], self.texel * self.axes[1], start], 1)  # (3, 3)
        local = camera.world_to_cam[:3, :3] @ columns
        local[:, 2] += camera.world_to_cam[:3, 3]
        matrix = camera.matrix
        matrix[:2, 2] -= 0.5
        return np.asarray(matrix @ local)

    def evidence(self, view: View, gain: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log odds that a pixel shows something else than the plane.

        The plane's difference to the plate is taken as Laplace distributed with the view's own spread, that of
        anything else as uniform. Beyond the plate 0; where the photos disagree about the plane `COVERED`.

        Returns:
            (H, W) float32, -3 (plane) .. 5 (something else).
        """
        to_view = self.to_view(view.camera)
        height, width = view.rgb.shape[:2]
        # Twice the size and averaged: far parts of the plane are finer than a pixel.
        double = np.array([[2.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]]) @ to_view

        def moved(plane: NDArray[np.float32]) -> NDArray[np.float32]:
            large = cv2.warpPerspective(plane, double, (2 * width, 2 * height), flags=cv2.INTER_LINEAR)
            return np.asarray(cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA), np.float32)

        trusted = moved(self.trusted)
        known = _in_front(np.linalg.inv(to_view)[2], (width, height))
        if view.valid is not None:
            known &= view.valid > 0.5
        same = known & (trusted > 0.5 * GUESSED)
        if same.sum() < 100:
            return np.zeros((height, width), np.float32)
        blurred = cv2.GaussianBlur(view.rgb * gain, (0, 0), BLUR) - cv2.GaussianBlur(
            moved(self.colours), (0, 0), BLUR
        )
        away = np.linalg.norm(blurred, axis=2)
        spread = float(np.clip(np.percentile(away[same], 40) / 0.51, 0.01, 0.05))
        value = np.clip(away / spread - np.log(SPAN / spread), -3.0, 5.0)
        value = np.where(
            same, value * np.minimum(trusted, 1.0), np.where(known & (trusted < -0.5), COVERED, 0.0)
        )
        return value.astype(np.float32)


def make_clean_plate(
    views: list[View],
    plane: NDArray[np.float64],
    centre: NDArray[np.float64],
    reach: float,
    carried: NDArray[np.float64],
    masks: list[NDArray[np.float32]] | None = None,
    hull: Hull | None = None,
    front: NDArray[np.float64] | None = None,
) -> CleanPlate:
    """Lay the photos over each other in the plane.

    Args:
        views: pictures without distortion.
        plane: (4,) n, d.
        centre: (3,) point above the middle of the plate.
        reach: half the plate's side.
        carried: (P, 3) points that lie on the plane; beyond their convex outline nothing is known about it.
        masks: per view (H, W), 1 object; its pixels are left out. None: the median over all photos decides.
        hull: what is known of the object; lets the plate show what only few photos see.
        front: colour density of the object, given with the hull.
    """
    axes = frame_of(plane[:3])[:2]
    foot = centre - (plane[:3] @ centre + plane[3]) * plane[:3]
    footprint = np.median([np.linalg.norm(v.camera.centre - foot) / v.camera.fx for v in views])
    count = int(np.clip(2 * reach / footprint, 64, 512))
    plate = CleanPlate(
        foot - reach * axes.sum(0), axes, 2 * reach / count, np.zeros((count, count, 3), np.float32),
        np.zeros((count, count), np.float32), np.ones((len(views), 3), np.float32),
    )  # fmt: skip
    local = (carried - plate.corner) @ axes.T / plate.texel
    domain = np.zeros((count, count), np.uint8)
    cv2.fillConvexPoly(domain, cv2.convexHull(local.astype(np.float32)).astype(np.int32), 1)
    stack = np.zeros((len(views), count, count, 3), np.float32)
    seen = np.zeros((len(views), count, count), bool)
    in_frame = np.zeros_like(seen)
    for i, view in enumerate(views):
        to_view = plate.to_view(view.camera)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        stack[i] = cv2.warpPerspective(view.rgb, to_view, (count, count), flags=flags)
        there = np.ones(view.rgb.shape[:2], np.float32) if view.valid is None else view.valid
        inside = cv2.warpPerspective(there, to_view, (count, count), flags=flags) > 0.99
        seen[i] = inside & _in_front(to_view[2], (count, count))
        in_frame[i] = seen[i]
        if masks is not None:
            wide = cv2.dilate(masks[i], np.ones((5, 5), np.uint8))
            seen[i] &= cv2.warpPerspective(wide, to_view, (count, count), flags=flags) < 0.01
    coarse = np.s_[:, ::3, ::3]
    middle = _middle(stack[coarse], seen[coarse])
    for i in range(len(views)):
        sample = stack[i, ::3, ::3]
        usable = seen[i, ::3, ::3] & (np.abs(sample - middle).max(2) < 0.25) & (middle.min(2) > 0.05)
        if usable.sum() > 100:
            plate.gains[i] = np.median(middle[usable] / np.maximum(sample[usable], 0.02), 0).clip(0.6, 1.6)
        stack[i] *= plate.gains[i]
    plate.colours = _middle(stack, seen)
    box = np.ones((3, 3), np.uint8)
    lowest, highest = cv2.erode(plate.colours, box) - SAME, cv2.dilate(plate.colours, box) + SAME
    agree = np.zeros((count, count), np.float32)
    for i in range(len(views)):
        agree += seen[i] & ((stack[i] > lowest) & (stack[i] < highest)).all(2)
    number = seen.sum(0)
    share = 0.5 if masks is None else 0.7
    told = (number >= 3) & (agree >= share * number)
    plate.trusted = (np.where(told, 1.0, np.where(in_frame.sum(0) >= 3, -1.0, 0.0)) * domain).astype(
        np.float32
    )
    if hull is not None:
        _look_under(plate, stack, in_frame, hull, views)
    if hull is not None and front is not None:
        _distrust_footprint(plate, hull, front)
    return plate


def _distrust_footprint(plate: CleanPlate, hull: Hull, front: NDArray[np.float64]) -> None:
    """Under the object the photos may agree and still show no plane: the foot of a round thing looks alike from all sides.

    There texels are believed only where their surroundings have the plane's colours rather than the object's.
    """
    count = len(plate.trusted)
    solid = hull.grid.centres()[hull.occupied.ravel()]
    place = np.floor((solid - plate.corner) @ plate.axes.T / plate.texel).astype(int)
    place = place[((place >= 0) & (place < count)).all(1)]
    under = np.zeros((count, count), np.uint8)
    under[place[:, 1], place[:, 0]] = 1
    grown = 2 * int(np.ceil(2.0 * hull.grid.voxel / plate.texel)) + 1
    under = np.asarray(cv2.dilate(under, np.ones((grown, grown), np.uint8)))
    index = colour_index(plate.colours)
    # The plane close by, with the object's shadow on it.
    near = cv2.distanceTransform(1 - under, cv2.DIST_L2, 3) < 0.5 * np.sqrt(float(under.sum()))
    beside = (under == 0) & near & (plate.trusted > 0.99)
    if beside.sum() < 500:
        return
    odds = colour_odds(front, density(histogram(index[beside])), index)
    odds = np.asarray(cv2.boxFilter(odds, -1, (7, 7)))
    plate.trusted[(under > 0) & (plate.trusted > 0.0) & (odds > FOREIGN)] = -1.0


def _look_under(
    plate: CleanPlate,
    stack: NDArray[np.float32],
    in_frame: NDArray[np.bool_],
    hull: Hull,
    views: list[View],
) -> None:
    """Fill texels that the photos disagree about from the four photos whose lines of sight cross least of the hull.

    That shows the table between the legs of what stands on it, where most photos see legs and belly.
    """
    rows, columns = np.nonzero(plate.trusted < 0)
    points = plate.corner + plate.texel * (
        (columns + 0.5)[:, None] * plate.axes[0] + (rows + 0.5)[:, None] * plate.axes[1]
    )
    size = hull.grid.voxel * np.array(hull.grid.shape)
    middle = hull.grid.origin + size / 2 @ hull.grid.axes
    near = np.linalg.norm(points - middle, axis=1) < np.linalg.norm(size)
    if near.sum() == 0 or len(views) < 4:
        return
    rows, columns, points = rows[near], columns[near], points[near]
    # Neighbouring texels share their lines of sight: as many as make the work bearable.
    block = int(np.ceil(np.sqrt(len(points) / SIGHT_LINES)))
    blocks, own = np.unique(rows // block * len(plate.trusted) + columns // block, return_inverse=True)
    starts = np.zeros((len(blocks), 3))
    np.add.at(starts, own, points)
    starts /= np.bincount(own)[:, None]
    crossing = np.stack([hull.crossing(starts, view.camera.centre)[own] for view in views])
    crossing[~in_frame[:, rows, columns]] = np.inf
    best = np.argsort(crossing, 0, kind="stable")[:4]
    colours = stack[best, rows, columns]  # (4, T, 3)
    central = np.sort(colours, 0)[1:3].mean(0)
    agree = (np.abs(colours - central).max(2) < 1.6 * SAME).sum(0) >= 3
    rows, columns = rows[agree], columns[agree]
    plate.colours[rows, columns] = central[agree]
    plate.trusted[rows, columns] = GUESSED


def _middle(stack: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Median over the views that see a texel: (V, N, N, 3), (V, N, N) -> (N, N, 3); 0 where none does."""
    bytes_ = np.where(seen[..., None], np.minimum(stack * 255.0, 254.0), 255.0).astype(np.uint8)
    ordered = np.sort(np.ascontiguousarray(np.moveaxis(bytes_, 0, -1)), -1)
    number = seen.sum(0)
    index = np.maximum(number - 1, 0) // 2
    middle = np.take_along_axis(
        ordered, np.broadcast_to(index[..., None, None], (*ordered.shape[:3], 1)), -1
    )[..., 0]
    return np.where(number[..., None] > 0, middle, 0).astype(np.float32) / np.float32(255.0)


def _in_front(third_row: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(height, width): where the third coordinate of a homography is positive; it is the depth, or one over it."""
    grid_x, grid_y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return np.asarray(third_row[0] * grid_x + third_row[1] * grid_y + third_row[2] > 0)
