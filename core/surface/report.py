# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mesh is made of, in numbers, and the connectivity the other surface modules count with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..types import Mesh


def edge_keys(faces: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(F, 3) -> keys of the (3F,) directed edges (01, 12, 20 of each face in turn) and of their opposites."""
    start = faces.astype(np.int64)
    end = np.roll(start, -1, axis=1)
    return (start << 32 | end).ravel(), (end << 32 | start).ravel()


def unpaired(faces: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(3F,) directed edges, in `edge_keys`' order, that no face runs along the other way."""
    there, back = edge_keys(faces)
    forward = there < back
    key = np.where(forward, there, back)  # of the edge whatever its direction
    # One stable sort of integers: numpy's sets took fifteen times as long (1.4 s against 0.09 s for 330,000 faces).
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(key[order]) != 0][: len(order)])
    out = np.zeros(len(key), np.bool_)
    if len(first):
        along = forward[order]
        both = np.logical_or.reduceat(along, first) & np.logical_or.reduceat(~along, first)
        out[order] = np.repeat(~both, np.diff(np.r_[first, len(order)]))
    return out


def crosses(faces: NDArray[np.int32]) -> bool:
    """Whether some two faces run along one edge the same way, as they do where four meet in it."""
    return bool((np.diff(np.sort(edge_keys(faces)[0])) == 0).any())


def boundary_edges(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """(B, 2) int32 directed edges that no face runs along the other way."""
    return np.stack([faces, np.roll(faces, -1, axis=1)], 2).reshape(-1, 2)[unpaired(faces)].astype(np.int32)


def face_parts(faces: NDArray[np.int32], vertex_count: int) -> tuple[int, NDArray[np.int32]]:
    """Number of parts connected through shared vertices, and the part of each face (F,)."""
    if not len(faces):
        return 0, np.zeros(0, np.int32)
    pairs = faces[:, [0, 1, 1, 2]].reshape(-1, 2)
    graph = coo_matrix((np.ones(len(pairs), np.int8), pairs.T), shape=(vertex_count, vertex_count))
    _, label = connected_components(graph, directed=False)
    used, part = np.unique(label[faces[:, 0]], return_inverse=True)
    return len(used), part.astype(np.int32)


def areas_and_volumes(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per face: area (F,), and signed volume (F,) of the tetrahedron it makes with the mesh's centre; they add up."""
    points = mesh.vertices.astype(np.float64)
    a, b, c = np.moveaxis((points - points.mean(0) if len(points) else points)[mesh.faces], 1, 0)
    cross = np.cross(b - a, c - a)
    return 0.5 * np.linalg.norm(cross, axis=1), (a * cross).sum(1) / 6


def mesh_report(mesh: Mesh) -> dict[str, Any]:
    """JSON-ready numbers for the panel and scene.json.

    Returns:
        faces, vertices, parts; holes (boundary loops), watertight (no boundary, every edge shared by two faces that run
        along it in opposite directions); area and volume in square and cubic units of the mesh's frame (volume is only
        meaningful when watertight); bounds [[x y z], [x y z]].
    """
    open_edges = boundary_edges(mesh.faces)
    loops = 0
    if len(open_edges):
        count = int(mesh.faces.max()) + 1
        graph = coo_matrix((np.ones(len(open_edges), np.int8), open_edges.T), shape=(count, count))
        _, label = connected_components(graph, directed=False)
        loops = len(np.unique(label[open_edges[:, 0]]))
    area, volume = areas_and_volumes(mesh)
    bounds = (
        np.stack([mesh.vertices.min(0), mesh.vertices.max(0)]) if len(mesh.vertices) else np.zeros((2, 3))
    )
    return {
        "faces": len(mesh.faces),
        "vertices": len(mesh.vertices),
        "parts": face_parts(mesh.faces, len(mesh.vertices))[0],
        "holes": loops,
        "watertight": bool(len(mesh.faces) and not len(open_edges) and not crosses(mesh.faces)),
        "area": float(area.sum()),
        "volume": float(volume.sum()),
        "bounds": bounds.astype(float).tolist(),
    }
