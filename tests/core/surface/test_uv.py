# SPDX-License-Identifier: GPL-3.0-or-later
"""UV charts: inside the square, not overlapping, not mirrored, little distorted; both ways of making them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from maquette.core.render.rasterize import spans
from maquette.core.surface.uv import UvSettings, unwrap
from maquette.core.types import Mesh


def double_share(uvs, size):
    """Share of the covered texels that more than one face covers."""
    screen = torch.tensor(uvs).reshape(-1, 2) * size
    count = torch.zeros(size * size, dtype=torch.long)
    for pixel, _, _ in spans(
        screen, torch.ones(len(screen)), torch.arange(len(screen)).reshape(-1, 3), size, size
    ):
        count += torch.bincount(pixel, minlength=size * size)
    return float((count > 1).sum() / (count > 0).sum()), float((count > 0).float().mean())


def knot():
    """A closed surface that winds behind itself: flat projections of its regions overlap."""
    turns = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    centre = np.stack(
        [
            (2 + np.cos(3 * turns)) * np.cos(2 * turns),
            (2 + np.cos(3 * turns)) * np.sin(2 * turns),
            np.sin(3 * turns),
        ],
        1,
    )
    ahead = np.roll(centre, -1, 0) - np.roll(centre, 1, 0)
    side = np.cross(ahead, [0, 0, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, ahead)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    ring = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    points = centre[:, None] + 0.35 * (
        np.cos(ring)[:, None] * side[:, None] + np.sin(ring)[:, None] * up[:, None]
    )
    i, j = np.meshgrid(np.arange(240), np.arange(16), indexing="ij")
    a, b = i * 16 + j, (i + 1) % 240 * 16 + j
    c, d = (i + 1) % 240 * 16 + (j + 1) % 16, i * 16 + (j + 1) % 16
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return Mesh(points.reshape(-1, 3).astype(np.float32), faces.astype(np.int32))


@pytest.mark.parametrize("projected_from", [10**9, 0], ids=["xatlas", "projected"])
def test_charts_do_not_overlap_and_keep_their_shape(projected_from):
    mesh = unwrap(knot(), UvSettings(size=1024, projected_from=projected_from))
    assert mesh.uvs.shape == (7680, 3, 2) and mesh.uvs.min() >= 0 and mesh.uvs.max() <= 1
    double, used = double_share(mesh.uvs, 1024)
    assert double < 0.002 and used > 0.22
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    u, v = mesh.uvs[:, 1] - mesh.uvs[:, 0], mesh.uvs[:, 2] - mesh.uvs[:, 0]
    flat = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    assert (flat > 0).mean() > 0.995 or (flat < 0).mean() > 0.995  # none mirrored among the others
    scale = np.abs(flat) / area
    low, high = np.quantile(scale, [0.05, 0.95])
    assert high / low < 5  # areas agree within sqrt(5) in length


def test_one_triangle_and_none():
    one = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32), np.array([[0, 1, 2]], np.int32))
    assert np.ptp(unwrap(one).uvs.reshape(-1, 2), axis=0).min() > 0.3
    none = unwrap(Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)))
    assert none.uvs.shape == (0, 3, 2)


def test_corners_follow_their_faces():
    box = trimesh.creation.box((1, 2, 3))
    mesh = unwrap(Mesh(np.asarray(box.vertices, np.float32), np.asarray(box.faces, np.int32)))
    for face, uv in zip(mesh.faces, mesh.uvs, strict=True):  # flat charts keep every face similar to itself
        edges = np.linalg.norm(mesh.vertices[face] - mesh.vertices[np.roll(face, 1)], axis=1)
        flat = np.linalg.norm(uv - np.roll(uv, 1, 0), axis=1)
        np.testing.assert_allclose(flat / edges, (flat / edges).mean(), rtol=0.05)
