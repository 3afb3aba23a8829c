# SPDX-License-Identifier: GPL-3.0-or-later
"""Marching cubes: all 256 cases and whole volumes against recorded answers, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maquette.core.surface.marching import CORNERS, TRIANGLE_COUNT, marching_cubes


@pytest.fixture(scope="module")
def recorded(shared):
    return np.load(shared / "fixtures" / "implicit" / "mise_mc.npz")


def corner_triangles(vertices, faces, digits=9):
    """Triangles as a sorted list of their corner positions, turned so that the smallest corner comes first."""
    out = []
    for triangle in np.round(np.asarray(vertices)[np.asarray(faces)], digits) + 0.0:
        smallest = min(range(3), key=lambda i: tuple(triangle[i]))
        out.append(tuple(map(tuple, np.roll(triangle, -smallest, axis=0))))
    return sorted(out)


def test_all_256_cases(recorded):
    for case in range(256):
        volume = torch.zeros((2, 2, 2), dtype=torch.float64)
        for bit, (x, y, z) in enumerate(CORNERS.tolist()):
            volume[x, y, z] = -1 - 0.1 * bit if case >> bit & 1 else 1 + 0.05 * bit
        # The recorded cell is open; ours is closed by its border, so only triangles inside the cell are compared.
        vertices, faces = marching_cubes(volume, 0.0)
        pick = (vertices[faces].mean(1) > 1e-4).all(1) & (vertices[faces].mean(1) < 1 - 1e-4).all(1)
        faces = faces[pick]
        v0, v1 = recorded["mc256_vertex_offsets"][case : case + 2]
        f0, f1 = recorded["mc256_face_offsets"][case : case + 2]
        expected = corner_triangles(recorded["mc256_vertices"][v0:v1], recorded["mc256_faces"][f0:f1])
        assert int(TRIANGLE_COUNT[case]) == f1 - f0
        assert corner_triangles(vertices, faces) == expected, case


def test_smooth_volume_as_recorded(recorded):
    vertices, faces = marching_cubes(torch.tensor(recorded["mc_volume"]), 0.1)
    expected_vertices, expected_faces = recorded["mc_volume_vertices"], recorded["mc_volume_faces"]
    # Recorded without a closed border: compare the part of ours that does not touch it.
    top = torch.tensor(recorded["mc_volume"].shape) - 1
    inner = ((vertices > 1e-3) & (vertices < top - 1e-3)).all(1)
    pick = inner[faces].all(1)
    mine = set(corner_triangles(vertices, faces[pick], 5))
    theirs = set(corner_triangles(expected_vertices, expected_faces, 5))
    assert len(mine) > 800 and mine <= theirs


def test_sphere_is_closed_and_has_its_volume():
    axis = torch.linspace(-1, 1, 41, dtype=torch.float64)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    vertices, faces = marching_cubes(0.8 - (x * x + y * y + z * z).sqrt(), 0.0)
    vertices = vertices / 20 - 1
    a, b, c = vertices[faces].unbind(1)
    volume = (torch.linalg.cross(a, b) * c).sum() / 6
    assert abs(volume / (4 / 3 * torch.pi * 0.8**3) - 1) < 0.005
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    # Closed and consistently wound: every directed edge once, and its opposite too.
    there = {tuple(e) for e in edges.tolist()}
    assert len(there) == len(edges) and all((b, a) in there for a, b in there)


def test_nothing_inside_gives_nothing():
    vertices, faces = marching_cubes(torch.full((3, 3, 3), -1.0), 0.0)
    assert len(vertices) == 0 and len(faces) == 0
