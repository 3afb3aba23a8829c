# SPDX-License-Identifier: GPL-3.0-or-later
"""Cleaning and the mesh report on small meshes whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from maquette.core.surface.clean import (
    CleanSettings,
    clean_mesh,
    decimate,
    fill_holes,
    repair,
    smooth,
    split_crossings,
)
from maquette.core.surface.report import edge_keys, mesh_report, unpaired
from maquette.core.types import Mesh


def ball(radius=1.0, centre=(0, 0, 0), subdivisions=3):
    shape = trimesh.creation.icosphere(subdivisions, radius)
    return np.asarray(shape.vertices + centre, np.float32), np.asarray(shape.faces, np.int32)


def joined(*parts):
    start = np.cumsum([0] + [len(v) for v, _ in parts[:-1]])
    return Mesh(
        np.concatenate([v for v, _ in parts]),
        np.concatenate([f + s for (_, f), s in zip(parts, start, strict=True)]).astype(np.int32),
    )


def test_report_of_a_box():
    shape = trimesh.creation.box((1, 2, 3))
    report = mesh_report(Mesh(np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32)))
    assert report["faces"] == 12 and report["vertices"] == 8 and report["parts"] == 1
    assert report["watertight"] and report["holes"] == 0
    assert report["area"] == pytest.approx(22) and report["volume"] == pytest.approx(6)
    assert report["bounds"] == [[-0.5, -1.0, -1.5], [0.5, 1.0, 1.5]]


def test_unpaired_edges_are_those_whose_opposite_is_in_no_face() -> None:
    """Of random faces, some of which share edges once, twice or the same way round."""
    rng = np.random.default_rng(0)
    for count in (0, 1, 40, 3000):
        faces = rng.integers(0, 6 + int(count**0.5), (count, 3)).astype(np.int32)
        faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]
        there, back = edge_keys(faces)
        np.testing.assert_array_equal(unpaired(faces), ~np.isin(there, back))


def test_floaters_and_hollows_go():
    v, f = ball(0.5, subdivisions=2)
    mesh = joined(ball(), ball(0.1, (2, 0, 0)), (v, f[:, ::-1]), ball(0.5, (0, 3, 0)))
    assert mesh_report(mesh)["parts"] == 4
    clean = clean_mesh(mesh)
    # The ball of a tenth has 1 % of the area and goes; the inner shell faces inwards and goes; the half ball stays.
    assert mesh_report(clean)["parts"] == 2 and mesh_report(clean)["bounds"][1][1] == pytest.approx(
        3.5, abs=1e-3
    )
    assert mesh_report(clean_mesh(mesh, CleanSettings(most_parts=1)))["parts"] == 1
    assert mesh_report(clean_mesh(mesh, CleanSettings(smallest_part=0.0, drop_hollows=False)))["parts"] == 4


def test_small_holes_are_filled_and_large_ones_stay():
    vertices, faces = ball()
    around = (faces == 5).any(1)  # the fan of five faces around one corner of the icosahedron
    mesh = Mesh(vertices, faces[~around])
    assert mesh_report(mesh)["holes"] == 1 and not mesh_report(mesh)["watertight"]
    filled = mesh_report(fill_holes(repair(mesh), 100))
    assert filled["watertight"] and filled["volume"] == pytest.approx(
        mesh_report(Mesh(vertices, faces))["volume"], rel=0.01
    )
    assert mesh_report(fill_holes(mesh, 4))["holes"] == 1


def test_repair_leaves_nothing_for_blender_to_find():
    vertices = np.array(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1e-9, 0, 0], [np.nan, 0, 0], [7, 7, 7]], np.float32
    )
    faces = np.array(
        [[0, 1, 2], [1, 2, 0], [4, 1, 2], [0, 1, 3], [0, 3, 1], [0, 4, 2], [1, 1, 2], [0, 1, 5], [0, 2, 3]],
        np.int32,
    )
    mesh = repair(Mesh(vertices, faces))
    # Vertex 4 is vertex 0: three copies of 012 leave one; 013 and 031 cancel; 042, 112 and the face with NaN go.
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]] and len(mesh.vertices) == 4


def test_taubin_keeps_the_volume_and_removes_noise():
    vertices, faces = ball(subdivisions=4)
    noisy = vertices * (1 + 0.01 * np.random.default_rng(0).normal(size=(len(vertices), 1))).astype(
        np.float32
    )
    calm = smooth(Mesh(noisy, faces), 10)
    rough = np.std(np.linalg.norm(noisy, axis=1)), np.std(np.linalg.norm(calm.vertices, axis=1))
    assert rough[1] < 0.4 * rough[0]
    assert mesh_report(calm)["volume"] == pytest.approx(4 / 3 * np.pi, rel=0.01)


def test_decimation_keeps_to_the_budget_and_stays_closed():
    vertices, faces = ball(subdivisions=5)
    mesh = decimate(Mesh(vertices, faces), 2000)
    assert 1800 <= len(mesh.faces) <= 2000 and mesh_report(mesh)["watertight"]
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1).max() < 0.01


def test_an_edge_of_four_faces_becomes_two():
    """Two boxes that share an edge: closed after the split, both as they were."""
    box = trimesh.creation.box()
    one, other = np.asarray(box.vertices), np.asarray(box.vertices) + [1, 1, 0]
    both = trimesh.Trimesh(
        np.concatenate([one, other]), np.concatenate([box.faces, box.faces + 8]), process=False
    )
    both.merge_vertices()
    mesh = Mesh(np.asarray(both.vertices, np.float32), np.asarray(both.faces, np.int32))
    assert len(mesh.vertices) == 14 and not mesh_report(mesh)["watertight"]
    report = mesh_report(split_crossings(mesh))
    assert report["watertight"] and (report["faces"], report["volume"]) == (24, pytest.approx(2.0))
    assert report["vertices"] in (14, 16)  # the edge's ends may stay one fan
    ball = trimesh.creation.icosphere(2)
    plain = Mesh(np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32))
    assert split_crossings(plain) is plain


def test_an_edge_inside_a_block_is_split_in_its_middle():
    """Two cells that touch along an edge between two whole layers: both pairs of faces hang together at the edge's ends."""
    cells = np.ones((2, 2, 3), bool)
    cells[0, 1, 1] = cells[1, 0, 1] = False
    solid = np.pad(cells, 1)
    corners, faces = {}, []
    for cell in np.argwhere(solid):
        for axis in range(3):
            for side in (0, 1):
                beside = cell.copy()
                beside[axis] += 2 * side - 1
                if solid[tuple(beside)]:
                    continue
                u, v = ((axis + 1) % 3, (axis + 2) % 3) if side else ((axis + 2) % 3, (axis + 1) % 3)
                quad = []
                for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
                    point = cell.copy()
                    point[axis] += side
                    point[u] += a
                    point[v] += b
                    quad.append(corners.setdefault(tuple(point), len(corners)))
                faces += [[quad[0], quad[1], quad[2]], [quad[0], quad[2], quad[3]]]
    mesh = Mesh(np.array(list(corners), np.float32), np.array(faces, np.int32))
    assert not mesh_report(mesh)["watertight"]
    report = mesh_report(split_crossings(mesh))
    assert report["watertight"] and report["volume"] == pytest.approx(cells.sum())
    assert report["area"] == pytest.approx(mesh_report(mesh)["area"])


def test_empty_stays_empty():
    mesh = clean_mesh(Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)))
    assert mesh.faces.shape == (0, 3) and mesh_report(mesh)["faces"] == 0
