# SPDX-License-Identifier: GPL-3.0-or-later
"""A coarse visual hull: what several pictures agree on, carried from picture to picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..types import Camera
from .region import Focus

CELLS = 96
"""Voxels along the longest side of a hull."""
CONFIDENT = 1.0
"""Mean log odds from which the pictures together show an object at a place."""
REACH = 1.25
"""Radius of the ball that is searched, over that of the ball which the pictures show whole: objects may be cut off."""

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """A box of cubic voxels, turned so that its third axis is the normal of the carrying plane."""

    origin: NDArray[np.float64]
    """(3,) corner of the first voxel, result's frame."""
    axes: NDArray[np.float64]
    """(3, 3) rows are the unit axes in the result's frame."""
    voxel: float
    """Side of a voxel."""
    shape: tuple[int, int, int]

    def centres(self) -> NDArray[np.float64]:
        """(X * Y * Z, 3) voxel centres in the result's frame."""
        index = np.stack(np.meshgrid(*[np.arange(n) + 0.5 for n in self.shape], indexing="ij"), -1)
        return np.asarray(self.origin + index.reshape(-1, 3) * self.voxel @ self.axes)

    def finer(self, occupied: NDArray[np.bool_]) -> Grid:
        """A grid of `CELLS` around the occupied voxels with some room, never below this grid's floor."""
        index = np.argwhere(occupied)
        room = 0.12 * float((np.ptp(index, axis=0) + 1).max()) + 1.0
        base = self.axes @ self.origin
        low = base + (index.min(0) - room) * self.voxel
        high = base + (index.max(0) + 1 + room) * self.voxel
        low[2] = max(low[2], base[2])
        return turned_grid(low, high, self.axes, CELLS)


@dataclass(frozen=True)
class Hull:
    """Occupied voxels of a grid."""

    grid: Grid
    occupied: NDArray[np.bool_]
    """(X, Y, Z)."""

    def box(self) -> NDArray[np.float64]:
        """(2, 3) bounds of the occupied voxels in the result's frame, with a voxel of room."""
        points = self.grid.centres()[self.occupied.ravel()]
        return np.stack([points.min(0) - 1.5 * self.grid.voxel, points.max(0) + 1.5 * self.grid.voxel])

    def pixels_per_voxel(self, camera: Camera) -> float:
        """Size of a voxel in the middle of the grid as the camera sees it."""
        middle = self.grid.origin + np.array(self.grid.shape) / 2 * self.grid.voxel @ self.grid.axes
        return self.grid.voxel * camera.fx / max(float(camera.project(middle[None])[1][0]), 1e-9)

    def crossing(self, points: NDArray[np.float64], towards: NDArray[np.float64]) -> NDArray[np.float32]:
        """Voxels that the lines of sight from points (P, 3) to a camera centre (3,) cross: (P,), steps of 1.5 voxels.

        The first two voxels do not count: the object's contact with the plane is thin.
        """
        rays = towards - points
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        count = np.zeros(len(points), np.float32)
        for step in np.arange(2.0, float(np.linalg.norm(self.grid.shape)), 1.5):
            local = (points + step * self.grid.voxel * rays - self.grid.origin) @ self.grid.axes.T
            index = np.floor(local / self.grid.voxel).astype(int)
            inside = ((index >= 0) & (index < self.grid.shape)).all(1)
            count[inside] += self.occupied[tuple(index[inside].T)]
        return count


def first_grid(focus: Focus, normal: NDArray[np.float64], plane: NDArray[np.float64] | None) -> Grid:
    """The ball that the pictures show whole, above the plane where there is one."""
    axes = frame_of(normal)
    middle = axes @ focus.centre
    low, high = middle - REACH * focus.radius, middle + REACH * focus.radius
    if plane is not None:
        low[2] = -plane[3]
        high[2] = max(high[2], low[2] + focus.radius)
    return turned_grid(low, high, axes, CELLS)


def carve(evidence: list[Map], cameras: list[Camera], grid: Grid, focus: Focus) -> Hull | None:
    """The first hull, from evidence that may say nothing in large parts of a picture.

    Args:
        evidence: per view (H, W) log odds of the object.
        cameras: theirs.
        grid: where to look; refined once.
        focus: the ball outside which nothing is kept.

    Returns:
        Voxels that few views take for background and a third of them for something else; None without any.
    """
    calm = [np.asarray(cv2.boxFilter(plane, -1, (5, 5)), np.float32) for plane in evidence]
    for last in (False, True):
        points = grid.centres()
        values = sample_views(points, cameras, calm, np.nan)
        number = (~np.isnan(values)).sum(0)
        keep = np.linalg.norm(points - focus.centre, axis=1) < REACH * focus.radius
        keep &= number >= 0.3 * len(cameras)
        keep &= (values < -1.0).sum(0) <= 0.33 * number + 0.5
        keep &= (values > 0.3).sum(0) >= 0.35 * number
        occupied = main_parts(keep.reshape(grid.shape))
        if occupied.sum() < 20:
            return None
        if last:
            break
        grid = grid.finer(occupied)
    return Hull(grid, occupied)


def vote(masks: list[Map], cameras: list[Camera], grid: Grid, share: float = 0.9) -> Hull | None:
    """Voxels that at least this share of the masks show, one more may fail; None without any."""
    values = sample_views(grid.centres(), cameras, masks, np.nan)
    number = (~np.isnan(values)).sum(0)
    keep = (number >= 0.3 * len(cameras)) & ((values > 0.5).sum(0) >= share * number - 0.5)
    occupied = main_parts(keep.reshape(grid.shape))
    return Hull(grid, occupied) if occupied.sum() >= 20 else None


def stand(hull: Hull, evidence: list[Map], cameras: list[Camera]) -> Hull:
    """The hull carried down to the plane where nothing speaks against it, and without what is only not contradicted.

    Feet are as dark as the shadow around them; but what stands on a plane reaches it (our choice). From the top down, a
    voxel stays if the pictures show an object there, or if it hangs from one that stays and is not seen through.
    """
    calm = [np.asarray(cv2.boxFilter(plane, -1, (3, 3)), np.float32) for plane in evidence]
    values = sample_views(hull.grid.centres(), cameras, calm, np.nan)
    through = ((values < -1.5).sum(0) >= 1).reshape(hull.grid.shape)
    told = np.nan_to_num(np.clip(values, -3.0, 3.0)).mean(0).reshape(hull.grid.shape) > CONFIDENT
    kept = np.zeros_like(hull.occupied)
    above = np.zeros_like(hull.occupied[:, :, 0])
    for layer in range(hull.grid.shape[2] - 1, -1, -1):
        above = ((hull.occupied & told)[:, :, layer] | above) & ~through[:, :, layer]
        kept[:, :, layer] = above
    return Hull(hull.grid, main_parts(kept))


def turned_grid(
    low: NDArray[np.float64], high: NDArray[np.float64], axes: NDArray[np.float64], cells: int
) -> Grid:
    """A grid of about `cells` voxels along the longest side between two corners given along `axes` from the origin."""
    voxel = float((high - low).max()) / cells
    shape = np.maximum(np.ceil((high - low) / voxel - 1e-6).astype(int), 1)
    return Grid(low @ axes, axes, voxel, (int(shape[0]), int(shape[1]), int(shape[2])))


def frame_of(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rows: two unit axes across `normal`, then `normal`."""
    first = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first), normal])


def sample_views(
    points: NDArray[np.float64], cameras: list[Camera], maps: list[Map], outside: float
) -> NDArray[np.float32]:
    """Values of one map per camera at the projections of points.

    Args:
        points: (P, 3) result's frame.
        cameras: pinhole cameras.
        maps: per camera (h, w) float32 of the whole picture in any resolution.
        outside: value where a point falls outside the picture.

    Returns:
        (len(cameras), P) float32, nearest sample.
    """
    values = np.empty((len(cameras), len(points)), np.float32)
    for row, camera, plane in zip(values, cameras, maps, strict=True):
        height, width = plane.shape
        pixels, depth = camera.resized(width, height).project(points)
        x, y = np.floor(pixels[:, 0]).astype(np.int64), np.floor(pixels[:, 1]).astype(np.int64)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (depth > 0)
        row[:] = outside
        row[inside] = plane[y[inside], x[inside]]
    return values


def silhouettes(hull: Hull, cameras: list[Camera]) -> list[Map]:
    """Pictures of the hull, (height, width) float32 0..1 per camera: drawn at the size of a voxel, enlarged softly."""
    points = hull.grid.centres()[surface_voxels(hull.occupied).ravel()]
    return [_silhouette(points, hull.grid.voxel, camera) for camera in cameras]


def _silhouette(points: NDArray[np.float64], voxel: float, camera: Camera) -> Map:
    width, height = camera.width, camera.height
    out = np.zeros((height, width), np.float32)
    pixels, depth = camera.project(points)
    pixels, depth = pixels[depth > 0], depth[depth > 0]
    if not len(depth):
        return out
    step = max(1.0, 0.8 * voxel * camera.fx / float(np.median(depth)))
    rows, columns = int(np.ceil(height / step)), int(np.ceil(width / step))
    x, y = np.floor(pixels[:, 0] / step).astype(int), np.floor(pixels[:, 1] / step).astype(int)
    keep = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    small = np.zeros((rows, columns), np.uint8)
    small[y[keep], x[keep]] = 1
    small = np.asarray(cv2.morphologyEx(small, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)))
    grown = cv2.resize(small.astype(np.float32), None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    part = grown[:height, :width]
    out[: part.shape[0], : part.shape[1]] = part
    return out


def surface_voxels(occupied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Occupied voxels with an empty neighbour: they alone draw the silhouette."""
    inner = ndimage.binary_erosion(occupied, ndimage.generate_binary_structure(3, 1))
    return np.asarray(occupied & ~inner)


def main_parts(occupied: NDArray[np.bool_], share: float = 0.1) -> NDArray[np.bool_]:
    """Connected parts with at least `share` of the voxels of the largest one."""
    labels, count = ndimage.label(occupied, ndimage.generate_binary_structure(3, 2))
    if count <= 1:
        return occupied
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= share * sizes.max())[labels])
