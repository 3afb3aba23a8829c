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


class Mise:
    """Octree over the integer grid 0..R, R = resolution * 2^depth.

    Call `query` and `update` in turn until `query` gives no point.

    Args:
        resolution: leaves per axis at the start.
        depth: how often a leaf may be halved, so that the finest cells have edge 1.
        level: value on the surface (a logit for occupancy networks).
    """

    def __init__(self, resolution: int, depth: int, level: float) -> None:
        self.resolution = resolution << depth
        self.level = level
        self._keys: Ints = np.empty(0, np.int64)  # sorted keys of known points
        self._values: NDArray[np.float64] = np.empty(0)
        start = np.stack(np.meshgrid(*[np.arange(resolution)] * 3, indexing="ij"), -1).reshape(-1, 3)
        edge = 1 << depth
        self._leaves, self._edges = (
            start * edge,
            np.full(len(start), edge),
        )  # lowest corner, edge of every voxel ever
        self._is_leaf = np.ones(len(start), bool)
        nodes = np.stack(np.meshgrid(*[np.arange(resolution + 1) * edge] * 3, indexing="ij"), -1)
        self._unknown: Ints = nodes.reshape(-1, 3)
        self._live: Ints = self._unknown[:0]  # known points with a leaf of edge > 1 beside them
        self._live_values = self._values
        self.points_per_round: list[int] = []

    def query(self) -> Ints:
        """(N, 3) int64 grid points whose value is wanted, in the order of their creation; empty when all is known."""
        return self._unknown

    def update(self, values: NDArray[np.float64]) -> None:
        """Values of the points of the last `query`, (N,); refines the octree."""
        self.points_per_round.append(len(values))
        keys = np.concatenate([self._keys, self._key(self._unknown)])
        stored = np.concatenate([self._values, values.astype(np.float64)])
        order = np.argsort(keys, kind="stable")
        self._keys, self._values = keys[order], stored[order]
        self._live = np.concatenate([self._live, self._unknown])
        self._live_values = np.concatenate([self._live_values, values.astype(np.float64)])
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

    def _active(self) -> Ints:
        """Indices of the leaves to split, in the order of their creation."""
        cells = self._live[:, None] + _CELLS  # (N, 8, 3) lowest corners of the unit cells around each point
        inside = ((cells >= 0) & (cells < self.resolution)).all(-1)
        leaf = np.full(inside.shape, -1)
        remaining = np.nonzero(inside)
        for edge in sorted(set(self._edges.tolist())):  # smallest first; edge 1 is found but never split
            voxels = np.flatnonzero((self._edges == edge) & self._is_leaf)
            keys = self._key(self._leaves[voxels])
            order = np.argsort(keys)
            wanted = self._key(cells[remaining] // edge * edge)
            place = (
                np.minimum(np.searchsorted(keys, wanted, sorter=order), len(order) - 1)
                if len(order)
                else None
            )
            if place is None:
                continue
            found = keys[order[place]] == wanted
            leaf[remaining[0][found], remaining[1][found]] = voxels[order[place[found]]]
            remaining = remaining[0][~found], remaining[1][~found]
        coarse = (leaf >= 0) & (self._edges[leaf] > 1)
        inside_of = self._live_values >= self.level, self._live_values <= self.level
        sides = [leaf[coarse & side_of[:, None]] for side_of in inside_of]
        keep = coarse.any(1)
        self._live, self._live_values = self._live[keep], self._live_values[keep]
        return np.intersect1d(sides[0], sides[1])

    def _split(self, voxels: Ints) -> Ints:
        """Halve the voxels' edges; (N, 3) points that did not exist before."""
        half = self._edges[voxels] // 2
        corners = self._leaves[voxels]
        self._is_leaf[voxels] = False
        children = (corners[:, None] + _CHILDREN * half[:, None, None]).reshape(-1, 3)
        self._leaves = np.concatenate([self._leaves, children])
        self._edges = np.concatenate([self._edges, np.repeat(half, 8)])
        self._is_leaf = np.concatenate([self._is_leaf, np.ones(len(children), bool)])
        points = (corners[:, None] + _LATTICE * half[:, None, None]).reshape(-1, 3)
        keys = self._key(points)
        _, first = np.unique(keys, return_index=True)
        first.sort()
        return points[first[~np.isin(keys[first], self._keys)]]


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
        octree.update(field(box * (points / octree.resolution - 0.5)))
    return octree
