# SPDX-License-Identifier: GPL-3.0-or-later
"""Multi-resolution isosurface extraction: which grid points to evaluate (Mescheder et al. 2019, section 3.3).

The published rule, point for point: a leaf of the octree is refined when the known points in its closed cube, hanging
ones on its faces and edges included, lie on both sides of the level. Memory grows with the surface, not with the volume.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_CELLS = np.stack(np.meshgrid([-1, 0], [-1, 0], [-1, 0], indexing="ij"), -1).reshape(8, 3)
_CHILDREN = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(8, 3)
_LATTICE = np.stack(np.meshgrid([0, 1, 2], [0, 1, 2], [0, 1, 2], indexing="ij"), -1).reshape(27, 3)
_LEAF, _UNITS = -1, -2
"""In place of a voxel's first child: it is not split, or it is split into unit cells, which nobody asks about."""
_CHUNK = 1 << 16
"""Points looked up at a time."""


class Mise:
    """Octree over the integer grid 0..R, R = resolution * 2^depth.

    Call `query` and `update` in turn until `query` gives no point. A point is kept as its flat index, its *key*.

    Args:
        resolution: leaves per axis at the start.
        depth: how often a leaf may be halved, so that the finest cells have edge 1.
        level: value on the surface (a logit for occupancy networks).
    """

    def __init__(self, resolution: int, depth: int, level: float) -> None:
        self.resolution = resolution << depth
        self.level = level
        self._coarse, self._depth = resolution, depth
        self._keys: Ints = np.empty(0, np.int64)  # of known points, ascending
        self._values: NDArray[np.float64] = np.empty(0)
        # Every voxel of edge > 1 that ever was, in the order of creation: key of its lowest corner, edge, first child.
        start = np.stack(np.meshgrid(*[np.arange(resolution)] * 3, indexing="ij"), -1).reshape(-1, 3)
        self._corners = self._key(start << depth)
        self._edges = np.full(len(start), 1 << depth, np.int32)
        self._child = np.full(len(start), _LEAF if depth else _UNITS, np.int64)
        nodes = np.stack(np.meshgrid(*[np.arange(resolution + 1) << depth] * 3, indexing="ij"), -1)
        self._unknown = self._key(nodes.reshape(-1, 3))
        # Known points with a leaf of edge > 1 beside them: key, value >= level, value <= level.
        self._live: Ints = self._unknown[:0]
        self._above, self._below = np.empty(0, bool), np.empty(0, bool)
        self.points_per_round: list[int] = []

    def query(self) -> Ints:
        """(N, 3) int64 grid points whose value is wanted, in the order of their creation; empty when all is known."""
        return self._points(self._unknown)

    def update(self, values: NDArray[np.float64]) -> None:
        """Values of the points of the last `query`, (N,); refines the octree."""
        self.points_per_round.append(len(values))
        order = np.argsort(self._unknown)
        fresh = self._unknown[order]
        place = np.searchsorted(self._keys, fresh)
        self._keys = np.insert(self._keys, place, fresh)
        self._values = np.insert(self._values, place, values.astype(np.float64)[order])
        self._live = np.concatenate([self._live, self._unknown])
        self._above = np.concatenate([self._above, values >= self.level])
        self._below = np.concatenate([self._below, values <= self.level])
        self._unknown = self._split(self._active())

    def known(self) -> tuple[Ints, NDArray[np.float64]]:
        """Flat indices x (R+1)^2 + y (R+1) + z of all evaluated points, ascending, and their values."""
        return self._keys, self._values

    def dense(self) -> NDArray[np.float64]:
        """(R+1)^3 float64: unknown points copy the one before them along x, then along y, then along z."""
        side = self.resolution + 1
        flat = np.full(side**3, np.nan)
        flat[self._keys] = self._values
        grid = flat.reshape(side, side, side)
        for axis in range(3):
            along = np.moveaxis(grid, axis, 0)
            for i in range(1, side):
                np.copyto(along[i], along[i - 1], where=np.isnan(along[i]))
        return grid

    def _key(self, points: Ints) -> Ints:
        side = self.resolution + 1
        return (points[..., 0] * side + points[..., 1]) * side + points[..., 2]

    def _points(self, keys: Ints) -> Ints:
        """Inverse of `_key`, (N, 3)."""
        side = self.resolution + 1
        rest, z = np.divmod(keys, side)
        x, y = np.divmod(rest, side)
        return np.stack([x, y, z], -1)

    def _active(self) -> Ints:
        """Indices of the leaves to split, in the order of their creation; forgets points beside unit cells only."""
        above, below = (np.zeros(len(self._child), bool) for _ in range(2))
        keep = np.empty(len(self._live), bool)
        for start in range(0, len(self._live), _CHUNK):
            part = slice(start, start + _CHUNK)
            leaves = self._leaves_at(self._points(self._live[part])[:, None] + _CELLS)  # (N, 8), -1: none
            coarse = leaves >= 0
            above[leaves[coarse & self._above[part, None]]] = True
            below[leaves[coarse & self._below[part, None]]] = True
            keep[part] = coarse.any(1)
        self._live, self._above, self._below = self._live[keep], self._above[keep], self._below[keep]
        return np.flatnonzero(above & below)

    def _leaves_at(self, cells: Ints) -> Ints:
        """Leaf of edge > 1 around each unit cell (..., 3); -1 for cells that are leaves themselves or outside."""
        inside = np.asarray(((cells >= 0) & (cells < self.resolution)).all(-1))
        x, y, z = np.moveaxis(np.where(inside[..., None], cells, 0), -1, 0)
        top = (n >> self._depth for n in (x, y, z))
        found: Ints = np.ravel_multi_index(tuple(top), (self._coarse,) * 3)
        for bit in range(self._depth - 1, -1, -1):
            child = self._child[found]
            octant = (x >> bit & 1) << 2 | (y >> bit & 1) << 1 | (z >> bit & 1)
            found = np.where(child >= 0, child + octant, found)
        return np.where(inside & (self._child[found] == _LEAF), found, -1)

    def _split(self, voxels: Ints) -> Ints:
        """Halve the voxels' edges; keys of the points that did not exist before."""
        side = self.resolution + 1
        strides = np.array([side * side, side, 1])
        half = self._edges[voxels].astype(np.int64) // 2
        corners = self._corners[voxels]
        inner = half > 1
        self._child[voxels] = np.where(inner, len(self._child) + 8 * (np.cumsum(inner) - 1), _UNITS)
        children = corners[inner, None] + half[inner, None] * (_CHILDREN @ strides)
        self._corners = np.concatenate([self._corners, children.ravel()])
        self._edges = np.concatenate([self._edges, np.repeat(half[inner], 8).astype(np.int32)])
        self._child = np.concatenate([self._child, np.full(children.size, _LEAF)])
        keys = (corners[:, None] + half[:, None] * (_LATTICE @ strides)).ravel()
        order = np.argsort(keys)
        ascending = keys[order]
        starts = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]])[: len(keys)])
        once = ascending[starts]
        place = np.minimum(np.searchsorted(self._keys, once), len(self._keys) - 1)
        new = self._keys[place] != once
        first = np.minimum.reduceat(order, starts)[new] if len(keys) else order
        return keys[np.sort(first)]


def mise_values(
    field: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    resolution: int,
    depth: int,
    level: float,
    box: float,
) -> Mise:
    """Evaluate a field by the published rule.

    Args:
        field: (N, 3) float64 points of the cube of edge `box` around the origin -> (N,) values, larger inside.
        resolution, depth, level: see `Mise`.
        box: edge of the cube.
    """
    octree = Mise(resolution, depth, level)
    while len(points := octree.query()):
        parts = np.array_split(points, -(-len(points) // (1 << 20)))
        octree.update(np.concatenate([field(box * (part / octree.resolution - 0.5)) for part in parts]))
    return octree
