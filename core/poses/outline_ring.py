# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras around an object from its outlines alone, for objects without texture (turntable prior, spec-pose C.7 stage 5).

The photos are taken to go once around the object in their order, at equal steps, from one height and distance. Height,
field of view and the direction of the walk are those under which the visual hull of all outlines shows the outlines again
(Laurentini 1994 for the hull; the search is our choice). Then every camera moves by itself to where the hull of the others
fits its outline. An outline does not tell a shape from its mirror image seen from below, so cameras are taken to look down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ..cameras.rotations import from_axis_angle, turning
from ..images.hull import Grid, Hull, main_parts, sample_views, silhouettes
from ..types import Camera

Floats = NDArray[np.float64]
Map = NDArray[np.float32]

ELEVATIONS = (3.0, 10.0, 18.0, 27.0, 37.0, 50.0)
"""Degrees above the horizon that are tried."""
FOCALS = (1.0, 1.6, 3.0)
"""Focal lengths over the long side that are tried where none is known."""
COARSE, CELLS = 28, 44
"""Voxels along the box, for the first search and after it."""
BOX = 1.25
"""Half side of the searched box; the object's outline reaches about 1."""
MOST_STARTS = 10
"""Directions from which a single outline is fitted; of 150 those that overlap most."""
TIED = np.array([np.radians(12.0), np.radians(6.0), np.radians(4.0), 0.1, 0.03, 0.03])
"""How far a camera may well be from the ring: azimuth, elevation, roll, log distance, place in the picture."""
TIE = 0.002
"""Overlap that one such deviation has to win."""


@dataclass(frozen=True)
class RingFit:
    """What `fit_ring` yields."""

    cameras: list[Camera]
    """Of the outlines' pictures, in their order. The object has about the radius 1 around the origin, +Z is up."""
    iou: float
    """Mean overlap of the hull of all outlines with each of them, 0..1."""


@dataclass(frozen=True)
class _Ring:
    """Focal length over the long side, and (N, 6) numbers per view in the order of `TIED`."""

    focal: float
    views: Floats


def fit_ring(
    outlines: list[Map],
    names: list[str],
    focal: float | None = None,
    check: Callable[[], None] = lambda: None,
    rounds: int = 3,
) -> RingFit:
    """Place cameras around an object by its outlines.

    Args:
        outlines: per photo in the order of the walk (h, w) float32 0..1, 1 object; about 100 pixels are enough.
        names: of the photos.
        focal: focal length over the long side, None where it is not known.
        check: called often; raises when the artist cancels.
        rounds: of moving every camera by itself.

    Returns:
        Cameras of pictures of the outlines' size, and how well they agree.
    """
    tries: list[tuple[float, _Ring]] = []
    for height, lens, turn, still in product(
        ELEVATIONS, (focal,) if focal else FOCALS, (1.0, -1.0), (True, False)
    ):
        check()
        ring = _start(outlines, np.radians(height), lens, turn, still)
        tries.append((_agreement(ring, outlines, COARSE), ring))
    tries.sort(key=lambda item: -item[0])
    best: tuple[float, _Ring] | None = None
    for _, ring in tries[:2]:
        ring = _with_better_ring(ring, outlines, focal is None, check)
        for _ in range(rounds):
            ring = _with_better_views(ring, outlines, check)
        score = _agreement(ring, outlines)
        if best is None or score > best[0]:
            best = score, ring
    assert best is not None
    cameras = [replace(c, name=name) for c, name in zip(_cameras(best[1], outlines), names, strict=True)]
    return RingFit(cameras, best[0])


def place_by_outline(
    placed: list[Camera], outlines: list[Map], missing: Map, check: Callable[[], None] = lambda: None
) -> tuple[Camera, float] | None:
    """A camera for one more outline, from the hull of those whose cameras are known.

    Args:
        placed: cameras of `outlines`, in a frame with the object around the origin at radius 1 and +Z up.
        outlines: theirs.
        missing: the outline without a camera; its lens is that of the first placed one.
        check: called often; raises when the artist cancels.

    Returns:
        The camera and the overlap, 0..1; None where the known cameras have no hull.
    """
    hull = _hull(_shown(placed, outlines, CELLS).sum(0), len(placed))
    if hull is None:
        return None
    long_side = max(missing.shape)
    lens = placed[0].resized(*outlines[0].shape[::-1]).fx / max(outlines[0].shape)
    distance = float(np.median([np.linalg.norm(camera.centre) for camera in placed]))
    heights = [np.arcsin(np.clip(c.centre[2] / np.linalg.norm(c.centre), -1, 1)) for c in placed]
    pixel = _middle(missing)
    starts = [
        np.array([azimuth, height, 0.0, np.log(distance), *(pixel / long_side)])
        for azimuth, height in product(
            np.radians(np.arange(0, 360, 12.0)), np.linspace(min(heights) - 0.1, max(heights) + 0.1, 5)
        )
    ]
    starts.sort(key=lambda x: -_overlap(silhouettes(hull, [_camera(x, lens, missing)])[0], missing))
    best: tuple[float, Floats] | None = None
    for start in starts[:MOST_STARTS]:
        check()
        found = _fitted(hull, missing, lens, start, 60)
        if best is None or found[0] > best[0]:
            best = found
    assert best is not None
    score, numbers = _fitted(hull, missing, lens, best[1], 150)
    return _camera(numbers, lens, missing), score


def _start(outlines: list[Map], height: float, focal: float, turn: float, still: bool) -> _Ring:
    """Equal steps. `still`: the camera stood and the object turned, so all outlines share the axis."""
    count = len(outlines)
    long_side = max(outlines[0].shape)
    frames = np.array([_frame(outline) for outline in outlines])  # (N, 4) left, top, right, bottom
    middle = 0.5 * (frames[:, :2] + frames[:, 2:])
    size = 0.5 * (frames[:, 2:] - frames[:, :2])
    radius = np.linalg.norm(size, axis=1)
    if still:
        axis = np.array([0.5 * (frames[:, 0].min() + frames[:, 2].max()), middle[:, 1].mean()])
        middle = np.tile(axis, (count, 1))
        radius = np.full(count, radius.max())
    views = np.zeros((count, 6))
    views[:, 0] = turn * 2 * np.pi * np.arange(count) / count
    views[:, 1] = height
    views[:, 3] = np.log(focal * long_side / (radius if still else np.sqrt(radius * radius.mean())))
    centre = np.array(outlines[0].shape[::-1]) / 2
    views[:, 4:] = (middle - centre) / long_side
    return _Ring(focal, views)


def _frame(outline: Map) -> Floats:
    rows, columns = np.nonzero(outline > 0.5)
    if not len(rows):
        height, width = outline.shape
        return np.array([0.0, 0.0, width, height])
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64)


def _middle(outline: Map) -> Floats:
    """Of an outline's frame, from the picture's centre, pixels."""
    frame = _frame(outline)
    return np.asarray(0.5 * (frame[:2] + frame[2:]) - np.array(outline.shape[::-1]) / 2)


def _camera(numbers: Floats, focal: float, outline: Map) -> Camera:
    """Six numbers -> a camera that shows the origin at the given place."""
    azimuth, height, roll, log_distance, right, down = numbers
    rows, columns = outline.shape
    f = focal * max(rows, columns)
    side = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    x = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    looking = np.stack([x, np.cross(-side, x), -side], 1) @ from_axis_angle([0.0, 0.0, roll])
    ray = np.array([right / focal, down / focal, 1.0])
    pose = np.eye(4)
    pose[:3, :3] = looking @ turning(np.array([0.0, 0.0, 1.0]), ray).T
    pose[:3, 3] = np.exp(log_distance) * side
    return Camera("", columns, rows, f, f, columns / 2, rows / 2, pose)


def _cameras(ring: _Ring, outlines: list[Map]) -> list[Camera]:
    return [_camera(view, ring.focal, o) for view, o in zip(ring.views, outlines, strict=True)]


def _grid(cells: int) -> Grid:
    return Grid(np.full(3, -BOX), np.eye(3), 2 * BOX / cells, (cells, cells, cells))


def _shown(cameras: list[Camera], outlines: list[Map], cells: int) -> NDArray[np.bool_]:
    """(N, cells^3) whether each outline covers each voxel; what lies beyond a picture counts as covered."""
    return sample_views(_grid(cells).centres(), cameras, outlines, 1.0) > 0.5


def _hull(covered: NDArray[np.int64], views: int, cells: int = CELLS) -> Hull | None:
    """Voxels that all of the views cover but one at most; None without any."""
    occupied = (covered >= max(views - 1, 2)).reshape(cells, cells, cells)
    return Hull(_grid(cells), main_parts(occupied)) if occupied.sum() >= 20 else None


def _overlap(shown: Map, wanted: Map) -> float:
    return float(np.minimum(shown, wanted).sum() / max(float(np.maximum(shown, wanted).sum()), 1e-6))


def _agreement(ring: _Ring, outlines: list[Map], cells: int = CELLS) -> float:
    cameras = _cameras(ring, outlines)
    hull = _hull(_shown(cameras, outlines, cells).sum(0), len(cameras), cells)
    if hull is None:
        return 0.0
    shown = silhouettes(hull, cameras)
    return float(np.mean([_overlap(a, b) for a, b in zip(shown, outlines, strict=True)]))


def _with_better_ring(ring: _Ring, outlines: list[Map], free_focal: bool, check: Callable[[], None]) -> _Ring:
    """Height, field of view, axis and the angle walked, all views together."""
    count = len(outlines)
    long_side = max(outlines[0].shape)

    def changed(x: Floats) -> _Ring:
        focal = ring.focal * float(np.exp(x[1])) if free_focal else ring.focal
        views = ring.views.copy()
        views[:, 0] *= 1 + x[2]
        views[:, 1] = np.clip(views[:, 1] + x[0], -1.5, 1.5)
        views[:, 3] += x[1] if free_focal else 0.0
        views[:, 4] += x[3] / long_side
        return _Ring(focal, views)

    def loss(x: Floats) -> float:
        check()
        return 1.0 - _agreement(changed(x), outlines)

    sizes = np.diag([np.radians(5.0), 0.25, 0.5 / count, 1.5])
    simplex = np.concatenate([np.zeros((1, 4)), sizes])
    found = minimize(
        loss, np.zeros(4), method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": 50, "fatol": 1e-4, "xatol": 1e-4},
    )  # fmt: skip
    return changed(found.x)


def _with_better_views(ring: _Ring, outlines: list[Map], check: Callable[[], None]) -> _Ring:
    """Each view moves to where the hull of the others fits its outline."""
    shown = _shown(_cameras(ring, outlines), outlines, CELLS)
    covered = shown.sum(0)
    views = ring.views.copy()
    for i, outline in enumerate(outlines):
        check()
        hull = _hull(covered - shown[i], len(outlines) - 1)
        if hull is not None:
            views[i] = _fitted(hull, outline, ring.focal, views[i], 70)[1]
    return _Ring(ring.focal, views)


def _fitted(hull: Hull, outline: Map, focal: float, start: Floats, most: int) -> tuple[float, Floats]:
    """(overlap, numbers) of the view near `start` whose silhouette of the hull is most like the outline."""

    def loss(x: Floats) -> float:
        shown = silhouettes(hull, [_camera(start + x, focal, outline)])[0]
        return 1.0 - _overlap(shown, outline) + TIE * float(((x / TIED) ** 2).sum())

    simplex = np.concatenate([np.zeros((1, 6)), np.diag(0.5 * TIED)])
    found = minimize(
        loss, np.zeros(6), method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": most, "fatol": 1e-4, "xatol": 1e-4},
    )  # fmt: skip
    numbers = start + found.x
    return _overlap(silhouettes(hull, [_camera(numbers, focal, outline)])[0], outline), numbers
