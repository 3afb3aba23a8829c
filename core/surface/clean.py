# SPDX-License-Identifier: GPL-3.0-or-later
"""From an extracted surface to a mesh an artist can use: no floaters, no hidden shells, no holes, within the face budget."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import fast_simplification
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, diags
from scipy.sparse.csgraph import connected_components

from ..progress import Progress
from ..types import Mesh
from .report import areas_and_volumes, boundary_edges, crosses, edge_keys, face_parts, unpaired

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CleanSettings:
    """Settings of `clean_mesh`."""

    face_budget: int = 0
    """Triangles at most; 0: as many as there are."""
    smallest_part: float = 0.02
    """Parts with less than this share of the largest part's area are dropped."""
    most_parts: int = 0
    """Keep at most so many parts, largest first; 0: no limit."""
    drop_hollows: bool = True
    """Drop closed parts that face inwards: bubbles inside the object that no picture can show."""
    largest_hole: int = 100
    """Holes with at most so many edges are filled."""
    smooth_steps: int = 0
    """Taubin steps before decimation."""


def clean_mesh(mesh: Mesh, settings: CleanSettings | None = None, progress: Progress | None = None) -> Mesh:
    """Repair, drop small and hidden parts, fill small holes, smooth, decimate. Attributes and UVs are dropped.

    Returns:
        A mesh in the same frame, without degenerate or duplicate faces and without loose vertices; it faces outward
        when it is closed. Empty stays empty.
    """
    settings, progress = settings or CleanSettings(), progress or Progress()
    mesh = repair(mesh)
    progress.check()
    mesh = keep_parts(mesh, settings)
    mesh = fill_holes(mesh, settings.largest_hole)
    progress.check()
    if settings.smooth_steps:
        mesh = smooth(mesh, settings.smooth_steps)
    if 0 < settings.face_budget < len(mesh.faces):
        mesh = split_crossings(decimate(mesh, settings.face_budget))
    progress.check()
    if len(mesh.faces) and not len(boundary_edges(mesh.faces)) and areas_and_volumes(mesh)[1].sum() < 0:
        mesh = replace(mesh, faces=np.ascontiguousarray(mesh.faces[:, ::-1]))
    return mesh


def split_crossings(mesh: Mesh) -> Mesh:
    """Where four or more faces meet in an edge, as decimation leaves some, the surface touches itself afterwards instead of crossing.

    Faces are paired across each edge, one that runs along it with one that runs back. Corners of paired faces share a vertex, others do
    not; where both pairs still hang together at both ends, one of them gets a vertex in the middle of the edge. A closed mesh stays
    closed, and one without such edges stays as it is.
    """
    if not crosses(mesh.faces):
        return mesh
    one, other, _ = _paired(mesh.faces)
    links = np.concatenate([np.stack([one, _after(other)], 1), np.stack([_after(one), other], 1)])
    count = 3 * len(mesh.faces)
    graph = coo_matrix((np.ones(len(links), np.int8), links.T), shape=(count, count))
    number, corner = connected_components(graph, directed=False)
    vertices = np.zeros((number, 3), np.float32)
    vertices[corner] = mesh.vertices[mesh.faces.ravel()]
    mesh = Mesh(vertices, corner.reshape(-1, 3).astype(np.int32))
    for _ in range(8):  # a face is halved once a round
        one, other, rank = _paired(mesh.faces)
        again = rank > 0
        one, other = one[again], other[again]
        if not len(one):
            break
        faces = np.stack([one // 3, other // 3], 1)
        first = np.zeros(faces.shape, np.bool_).ravel()
        first[np.unique(faces, return_index=True)[1]] = True
        free = np.asarray(first.reshape(-1, 2).all(1), np.bool_)
        mesh = _halved(mesh, one[free], other[free])
    return mesh


def _after(half: NDArray[np.int64]) -> NDArray[np.int64]:
    """The next half-edge of the same face; half-edge 3 f + k begins in corner k of face f."""
    return half - half % 3 + (half + 1) % 3


def _paired(faces: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Half-edges (P,) and those that run back along the same edge (P,), and how many pairs of that edge come before (P,)."""
    there, back = edge_keys(faces)
    forward = there < back
    edge = np.where(forward, there, back)
    order = np.lexsort((forward, edge))  # of each edge first those that run back
    start = np.flatnonzero(np.r_[True, np.diff(edge[order]) != 0])
    length = np.diff(np.r_[start, len(order)])
    backward = np.add.reduceat((~forward[order]).astype(np.int64), start)
    place = np.arange(len(order)) - np.repeat(start, length)
    has = place < np.repeat(np.minimum(backward, length - backward), length)
    partner = np.arange(len(order)) + np.repeat(backward, length)
    return order[has], order[partner[has]], place[has]


def _halved(mesh: Mesh, one: NDArray[np.int64], other: NDArray[np.int64]) -> Mesh:
    """Each pair of faces with a vertex of its own in the middle of the edge between them; no face may come twice."""
    flat = mesh.faces.ravel()
    middle = (len(mesh.vertices) + np.arange(len(one))).astype(np.int32)
    points = (mesh.vertices[flat[one]] + mesh.vertices[flat[_after(one)]]) / 2
    faces, more = mesh.faces.copy(), []
    for half in (one, other):
        end, tip = flat[_after(half)], flat[_after(_after(half))]
        faces.ravel()[_after(half)] = middle
        more.append(np.stack([middle, end, tip], 1))
    return Mesh(np.concatenate([mesh.vertices, points]), np.concatenate([faces, *more]).astype(np.int32))


def repair(mesh: Mesh, weld: float = 1e-6) -> Mesh:
    """Make a mesh in which Blender's `Mesh.validate` finds nothing.

    Vertices closer than `weld` times the mesh's extent become one; faces with a repeated corner or a corner that is not
    finite go; of several faces on the same three vertices at most one stays, none when they face each other.
    """
    finite = np.all(np.isfinite(mesh.vertices), axis=1)
    faces = mesh.faces[np.all(finite[mesh.faces], axis=1)]
    vertices = np.where(finite[:, None], mesh.vertices, 0.0).astype(np.float32)
    if not len(faces):
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    faces = _welded(vertices, faces, weld)
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    # Faces on the same vertices cancel by orientation: an even turn counts +1, an odd one -1.
    order = np.argsort(faces, axis=1)
    ordered = np.take_along_axis(faces, order, axis=1).astype(np.int64)
    even = (order[:, 1] - order[:, 0]) % 3 == 1
    count = len(vertices)
    if count < 2**21:
        key = (ordered[:, 0] << 42) | (ordered[:, 1] << 21) | ordered[:, 2]
        _, first, same = np.unique(key, return_index=True, return_inverse=True)
    else:
        _, first, same = np.unique(ordered, axis=0, return_index=True, return_inverse=True)
    balance = np.bincount(same, weights=np.where(even, 1, -1), minlength=len(first))
    kept = np.zeros(len(faces), bool)
    kept[first[balance != 0]] = True
    wrong = kept & (even != (balance[same] > 0))  # the first one listed faces the other way
    faces = np.where(wrong[:, None], faces[:, ::-1], faces)[kept]
    return _compact(vertices, faces)


def _welded(vertices: NDArray[np.float32], faces: NDArray[np.int32], weld: float) -> NDArray[np.int32]:
    """Faces with every corner replaced by the first vertex of its group of near ones (groups are grid cells)."""
    extent = float(np.ptp(vertices, axis=0).max()) or 1.0
    cell = np.round((vertices - vertices.min(0)) / (extent * weld)).astype(np.int64)
    _, first, group = np.unique(
        cell @ np.array([1 << 42, 1 << 21, 1]), return_index=True, return_inverse=True
    )
    return first[group][faces].astype(np.int32)


def _compact(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> Mesh:
    """Without the vertices that no face uses; the others keep their order."""
    used = np.zeros(len(vertices), bool)
    used[faces] = True
    number = np.cumsum(used) - 1
    return Mesh(vertices[used], number[faces].astype(np.int32).reshape(-1, 3))


def keep_parts(mesh: Mesh, settings: CleanSettings) -> Mesh:
    """Drop floaters and hollows (see `CleanSettings`); the largest part always stays."""
    count, part = face_parts(mesh.faces, len(mesh.vertices))
    if count <= 1:
        return mesh
    areas, volumes = areas_and_volumes(mesh)
    area = np.bincount(part, areas, count)
    volume = np.bincount(part, volumes, count)
    open_part = np.zeros(count, bool)
    open_part[part[np.flatnonzero(unpaired(mesh.faces)) // 3]] = True
    keep = area >= settings.smallest_part * area.max()
    if settings.drop_hollows:
        keep &= (volume > 0) | open_part
    keep[area.argmax()] = True
    if settings.most_parts:
        keep &= area >= np.sort(np.where(keep, area, 0.0))[::-1][: settings.most_parts][-1]
    log.info("kept %d of %d parts", keep.sum(), count)
    return _compact(mesh.vertices, mesh.faces[keep[part]])


def fill_holes(mesh: Mesh, most_edges: int) -> Mesh:
    """Close boundary loops of at most `most_edges` edges with a fan around their centre (three edges: one face)."""
    edges = boundary_edges(mesh.faces)
    if not len(edges) or most_edges < 3:
        return mesh
    follows = dict(zip(edges[:, 0].tolist(), edges[:, 1].tolist(), strict=True))
    branching = len(follows) < len(edges)  # two loops meet in a vertex: those loops are left open
    starts, number = np.unique(edges[:, 0], return_counts=True)
    blocked = set(starts[number > 1].tolist()) if branching else set()
    vertices, faces = [mesh.vertices], [mesh.faces]
    total = len(mesh.vertices)
    while follows:
        start, after = follows.popitem()
        loop = [start]
        while after != start and after in follows:
            loop.append(after)
            after = follows.pop(after)
        if after != start or len(loop) > most_edges or len(loop) < 3 or blocked.intersection(loop):
            continue
        here = np.array(loop, np.int32)
        if len(loop) == 3:
            faces.append(here[None, ::-1])
            continue
        vertices.append(mesh.vertices[here].mean(0, keepdims=True))
        faces.append(np.stack([np.roll(here, -1), here, np.full_like(here, total)], 1))
        total += 1
    return Mesh(np.concatenate(vertices), np.concatenate(faces).astype(np.int32))


def smooth(mesh: Mesh, steps: int, inward: float = 0.5, outward: float = -0.53) -> Mesh:
    """Taubin 1995: a step in and a slightly larger one out, so that the volume stays. Border vertices stay."""
    pairs = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    count = len(mesh.vertices)
    links = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(count, count)).tocsr()
    links = ((links + links.T) > 0).astype(np.float64)
    average = diags(1.0 / np.maximum(np.asarray(links.sum(1)).ravel(), 1.0)) @ links
    free = np.ones((count, 1))
    free[boundary_edges(mesh.faces).ravel()] = 0.0
    points = mesh.vertices.astype(np.float64)
    for _ in range(steps):
        for factor in (inward, outward):
            points += factor * free * (average @ points - points)
    return replace(mesh, vertices=points.astype(np.float32))


def decimate(mesh: Mesh, face_budget: int) -> Mesh:
    """Quadric edge collapse (Garland and Heckbert 1997, by fast-simplification) to at most `face_budget` faces."""
    target = face_budget
    for aggressiveness in (5.0, 7.0, 9.0):  # gentle collapses may stop early; force only where they do
        vertices, faces = fast_simplification.simplify(
            mesh.vertices, mesh.faces, target_count=target, agg=aggressiveness
        )
        if len(faces) <= face_budget:
            break
    return repair(Mesh(np.asarray(vertices, np.float32), np.asarray(faces, np.int32)))
