# SPDX-License-Identifier: GPL-3.0-or-later
"""UV charts: xatlas where it is quick enough, flat projections of connected regions where the mesh is large.

xatlas grows charts of low distortion but slowly (its time grows faster than the face count). Projected charts take a
second per 100,000 faces; both are packed by xatlas.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
import xatlas
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from ..progress import Progress
from ..render.rasterize import spans
from ..types import Mesh
from .report import edge_keys

log = logging.getLogger(__name__)

Faces = NDArray[np.int32]


@dataclass(frozen=True)
class UvSettings:
    """Settings of `unwrap`."""

    size: int = 2048
    """Texels per side of the texture the charts are packed for."""
    padding: int = 0
    """Texels between charts; 0: size / 512, at least 2."""
    projected_from: int = 20_000
    """Meshes with more faces get projected charts (our choice: xatlas takes about 5 s of one core for so many, 40 s for 100,000)."""
    steepest: float = 0.25
    """Projected charts: cosine of the steepest angle between a face and its chart's direction."""
    smallest_chart: int = 40
    """Projected charts with fewer faces join a neighbour where they may."""

    @property
    def gap(self) -> int:
        """Padding in texels."""
        return self.padding or max(2, self.size // 512)


def unwrap(mesh: Mesh, settings: UvSettings | None = None, progress: Progress | None = None) -> Mesh:
    """The same mesh with corner UVs: charts inside 0..1 that do not overlap, `gap` texels apart at the given size.

    Vertices, faces and attributes stay as they are.
    """
    settings, progress = settings or UvSettings(), progress or Progress()
    if not len(mesh.faces):
        return replace(mesh, uvs=np.zeros((0, 3, 2), np.float32))
    progress.check()
    if len(mesh.faces) > settings.projected_from:
        chart, flat = projected_charts(mesh, settings)
        progress.check()
        return replace(mesh, uvs=_packed(chart, flat, settings))
    atlas = xatlas.Atlas()
    atlas.add_mesh(_enlarged(mesh.vertices), mesh.faces.astype(np.uint32))
    atlas.generate(xatlas.ChartOptions(), _pack_options(settings))
    return replace(mesh, uvs=_corner_uvs(atlas))


def _enlarged(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scaled so that the extent is 10,000: xatlas leaves out faces with an area below 1.2e-7, whatever the unit."""
    extent = float(np.ptp(points, axis=0).max()) or 1.0
    return np.ascontiguousarray(points * np.float32(1e4 / extent))


def _pack_options(settings: UvSettings) -> xatlas.PackOptions:
    options = xatlas.PackOptions()
    options.resolution = settings.size
    options.padding = settings.gap
    options.rotate_charts = False  # it turns charts by swapping u and v, which mirrors them
    return options


def _corner_uvs(atlas: xatlas.Atlas) -> NDArray[np.float32]:
    _, corners, uvs = atlas[0]  # faces keep their order
    # xatlas scales each axis to 0..1 by itself; a common scale keeps texels square.
    scale = np.array([atlas.width, atlas.height], np.float32) / max(atlas.width, atlas.height)
    log.info("%d charts, %.0f %% of the texture used", atlas.chart_count, 100 * atlas.utilization)
    return np.asarray((uvs * scale)[corners], np.float32).reshape(-1, 3, 2)


def projected_charts(mesh: Mesh, settings: UvSettings) -> tuple[Faces, NDArray[np.float32]]:
    """Cut a mesh into regions that face one of six directions, without folds.

    Returns:
        (F,) int32 chart of each face, (F, 3, 2) float32 its corners projected along the chart's direction, in units of
        the mesh's frame.
    """
    corners = mesh.vertices[mesh.faces].astype(np.float64)  # (F, 3, 3)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = normal / np.maximum(area, 1e-30)
    beside = face_neighbours(mesh.faces)
    calm = normal * area  # neighbours' normals, so that noise does not tear charts apart
    for _ in range(10):
        calm = calm + 0.5 * (beside @ calm)
        calm /= np.maximum(np.linalg.norm(calm, axis=1, keepdims=True), 1e-30)
    directions = np.concatenate([np.eye(3), -np.eye(3)])  # (6, 3)
    steep = normal @ directions.T
    allowed = (steep > settings.steepest) | (steep == steep.max(1, keepdims=True))
    label = np.where(allowed, calm @ directions.T, -2.0).argmax(1)
    for _ in range(4):
        chart = _connected(beside, label)
        small = np.bincount(chart)[chart] < settings.smallest_chart
        if not small.any():
            break
        votes = beside @ np.eye(6)[label] + 0.25 * steep
        label = np.where(small, np.where(allowed, votes, -2.0).argmax(1), label)
    axes = np.array([(1, 2), (2, 0), (0, 1), (2, 1), (0, 2), (1, 0)])[
        label
    ]  # keep orientation: no mirrored charts
    flat = np.take_along_axis(corners, axes[:, None, :].repeat(3, 1), axis=2).astype(np.float32)
    depth = (corners.mean(1) * directions[label]).sum(1)
    chart = _connected(beside, label)
    for _ in range(6):
        folded = _folded(chart, label, flat, depth)
        if not folded.any():
            break
        chart = _connected(beside, chart * 2 + folded)
    return chart.astype(np.int32), flat


def face_neighbours(faces: Faces) -> csr_matrix:
    """(F, F) matrix with 1 where two faces share an edge."""
    there, back = edge_keys(faces)
    order = np.argsort(there)
    place = np.minimum(np.searchsorted(there[order], back), len(there) - 1)
    found = there[order][place] == back
    rows = np.flatnonzero(found) // 3
    columns = order[place[found]] // 3
    links = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(faces), len(faces))).tocsr()
    return ((links + links.T) > 0).astype(np.float64)


def _connected(beside: csr_matrix, label: NDArray[np.int64]) -> NDArray[np.int64]:
    """(F,) number of the connected region of equal label each face lies in."""
    links = beside.tocoo()
    same = label[links.row] == label[links.col]
    graph = coo_matrix((links.data[same], (links.row[same], links.col[same])), shape=links.shape)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _folded(
    chart: NDArray[np.int64], label: NDArray[np.int64], flat: NDArray[np.float32], depth: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(F,) bool: faces that lie behind another face of their own chart, found on a grid of 768 pixels."""
    side = 768
    low = flat.reshape(-1, 2).min(0)
    scale = side / max(float((flat.reshape(-1, 2).max(0) - low).max()), 1e-30)
    folded = np.zeros(len(chart), bool)
    for direction in range(6):
        index = np.flatnonzero(label == direction)
        screen = torch.from_numpy((flat[index] - low) * np.float32(scale)).reshape(-1, 2)
        corners = torch.arange(len(screen)).reshape(-1, 3)
        pairs = list(spans(screen, torch.ones(len(screen)), corners, side, side))
        if not pairs:
            continue
        face = index[torch.cat([owner for _, _, owner in pairs]).numpy()]
        key = chart[face] * (side * side) + torch.cat([pixel for pixel, _, _ in pairs]).numpy()
        order = np.lexsort((-depth[face], key))
        behind = order[1:][key[order][1:] == key[order][:-1]]
        folded[face[behind]] = True
    return folded


def _packed(chart: Faces, flat: NDArray[np.float32], settings: UvSettings) -> NDArray[np.float32]:
    """Pack ready charts: (F,) chart, (F, 3, 2) -> (F, 3, 2) UVs. Corners of a chart that coincide become one vertex."""
    rows = np.concatenate([flat.reshape(-1, 2).view(np.int32), np.repeat(chart, 3)[:, None]], 1)
    points, corners = np.unique(rows, axis=0, return_inverse=True)
    atlas = xatlas.Atlas()
    atlas.add_uv_mesh(
        _enlarged(np.ascontiguousarray(points[:, :2]).view(np.float32)),
        corners.reshape(-1, 3).astype(np.uint32),
        chart.astype(np.uint32)[:, None],
    )
    atlas.generate(xatlas.ChartOptions(), _pack_options(settings))
    return _corner_uvs(atlas)
