# SPDX-License-Identifier: GPL-3.0-or-later
"""How meshes are compared: as point sets, with values and surfaces looked up at the nearest point.

Libraries differ in vertex counts (some merge less, by about 2 %) and in the order; the crossing points on the grid's edges
are the same for all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import trimesh
from maquette.core.surface.marching import CORNERS, TRIANGLE_COUNT, cases, march, place
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[Any]
SURFACE_TOLERANCE = 2e-3
"""Mean distance between the surfaces over the largest coordinate: ambiguous cells differ between libraries."""
STEP8 = 1 / 255 + 1e-6
"""One step of 8 bit: a truncated value may fall to either side."""


class OnMesh(np.ndarray):
    """Values of our mesh (faces, or one row per vertex) with both meshes, so that a comparison can look them up."""

    ours: tuple[Array, Array]
    theirs: tuple[Array, Array]

    @classmethod
    def of(cls, values: Array, ours: tuple[Array, Array], theirs: tuple[Array, Array]) -> OnMesh:
        """Attach (vertices, faces) of both meshes."""
        out = np.asarray(values).view(cls)
        out.ours, out.theirs = ours, theirs
        return out


def iso_surface(values: Array, level: float, low: float, high: float) -> tuple[Array, Array]:
    """Grid (R, R, R) in x, y, z order -> vertices (V, 3) in low..high and outward faces (F, 3) int32.

    Our own marching, left open at the border of the grid as the originals leave it: one layer is repeated beyond the
    upper borders, so that every edge belongs to a cell, and the faces of that layer are left out.
    """
    size = len(values)
    grid = torch.from_numpy(np.pad(values.astype(np.float64) - level, (0, 1), mode="edge"))
    inside = (grid > 0).int()
    corners = torch.stack(
        [inside[x : x + size, y : y + size, z : z + size] for x, y, z in CORNERS.tolist()]
    ).sum(0)
    cells = torch.nonzero((corners > 0) & (corners < 8))
    if not len(cells):
        return np.zeros((0, 3)), np.zeros((0, 3), np.int32)
    number = torch.zeros([size + 1] * 3, dtype=torch.long)
    number[tuple(cells.T)] = torch.arange(len(cells))
    at_corners = grid[(cells[:, None] + CORNERS).unbind(2)]
    base, axis, ends, faces = march(at_corners, cells, lambda at: number[tuple(at.T)])
    inner = (cells < size - 1).all(1).repeat_interleave(TRIANGLE_COUNT[cases(at_corners > 0)])
    vertices = place(base, axis, ends).numpy()
    return low + (high - low) * vertices / (size - 1), faces[inner].numpy().astype(np.int32)


def values_error(expected: Any, got: OnMesh) -> tuple[float, str]:
    """Largest difference between a value at an expected vertex and ours at the nearest vertex, over the maximum.

    Bytes are compared over 255, so that one step is 1/255.
    """
    if not len(got) or not len(expected):
        return _empty(expected, got)
    nearest = cKDTree(got.ours[0]).query(got.theirs[0])[1]
    a, b = np.asarray(expected, np.float64), np.asarray(got, np.float64)[nearest]
    most = 255.0 if np.asarray(expected).dtype == np.uint8 else max(np.abs(a).max(), 1e-12)
    return float(np.abs(a - b).max() / most), f"at the nearest vertex, {(a != b).sum()} of {a.size} differ"


def surface_error(expected: Any, got: OnMesh) -> tuple[float, str]:
    """Mean distance between the two surfaces over the largest coordinate; infinite for surfaces turned inside out."""
    if not len(got) or not len(expected):
        return _empty(expected, got)
    ours, theirs = (trimesh.Trimesh(v, f, process=False) for v, f in (got.ours, (got.theirs[0], expected)))
    distances = [_to_surface(a, b) for a, b in ((ours, theirs), (theirs, ours))]
    aligned = _alignment(ours, theirs)
    remark = f"{len(got)} faces for {len(expected)}, normals agree {aligned:.2f}"
    error = max(d.mean() for d in distances) / np.abs(theirs.vertices).max()
    return float(error) if aligned > 0.5 else float("inf"), remark


def _empty(expected: Any, got: Any) -> tuple[float, str]:
    """No error when neither mesh has anything."""
    return (0.0 if len(expected) == len(got) else float("inf")), f"{len(got)} for {len(expected)}"


def _to_surface(a: trimesh.Trimesh, b: trimesh.Trimesh, near: int = 24) -> Array:
    """Distances (F,) from the face centres of a to the surface of b, by the faces of b whose centres are nearest."""
    centres = a.triangles_center
    _, index = cKDTree(b.triangles_center).query(centres, min(near, len(b.faces)))
    points = np.repeat(centres, index.shape[1], 0)
    closest = trimesh.triangles.closest_point(b.triangles[index.ravel()], points)
    return np.asarray(np.linalg.norm(closest - points, axis=1).reshape(index.shape).min(1))


def _alignment(a: trimesh.Trimesh, b: trimesh.Trimesh) -> float:
    """Area-weighted mean cosine between face normals of a and of the nearest faces of b."""
    cross_a, cross_b = a.triangles_cross, b.triangles_cross
    nearest = cKDTree(b.triangles_center).query(a.triangles_center)[1]
    lengths = np.linalg.norm(cross_b[nearest], axis=1)
    dots = (cross_a * cross_b[nearest]).sum(1) / np.maximum(lengths, 1e-20)
    return float(dots.sum() / np.linalg.norm(cross_a, axis=1).sum())
