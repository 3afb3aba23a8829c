# SPDX-License-Identifier: GPL-3.0-or-later
"""Multi-resolution extraction gives the surface of the dense grid, asks far fewer points and loses no part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maquette.core.errors import FailedError
from maquette.core.surface.extract import ExtractSettings, extract_surface
from maquette.core.surface.report import face_parts
from scipy.spatial import cKDTree

from ...reference.extract import AnalyticField, extract_dense, gyroid, sphere, torus


def closed(faces):
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    there, back = edges @ [1 << 32, 1], edges[:, ::-1] @ [1 << 32, 1]
    return len(np.unique(there)) == len(there) and np.array_equal(np.sort(there), np.sort(back))


@pytest.mark.parametrize(
    "formula, most",
    [(sphere(0.83), 0.4), (torus(0.6, 0.2), 0.25), (gyroid(5.0, 0.35), 1.0), (sphere(1.2), 0.5)],
    ids=["sphere", "torus", "gyroid", "clipped by the box"],
)
def test_same_surface_as_the_dense_grid(formula, most):
    field = AnalyticField(formula)
    vertices, faces = extract_dense(field, 96)
    mesh = extract_surface(field, ExtractSettings(resolution=96, polish=0))
    assert len(mesh.faces) == len(faces) and len(mesh.vertices) == len(vertices)
    step = 2 / 96
    away = [cKDTree(a).query(b)[0].max() for a, b in ((vertices, mesh.vertices), (mesh.vertices, vertices))]
    assert max(away) < 1e-3 * step  # float32 rounding of positions
    assert closed(mesh.faces) and field.asked < most * 97**3


def test_kinds_agree_and_face_outwards():
    expected = 4 / 3 * np.pi * 0.7**3
    for kind, formula, level in (
        ("density", lambda p: 40 * torch.sigmoid(30 * (0.7 - p.norm(dim=1))), 20.0),
        ("occupancy", lambda p: torch.sigmoid(30 * (0.7 - p.norm(dim=1))), 0.5),
        ("signed_distance", lambda p: p.norm(dim=1) - 0.7, 0.0),
    ):
        mesh = extract_surface(AnalyticField(formula, kind, level), ExtractSettings(resolution=100))
        a, b, c = np.moveaxis(mesh.vertices[mesh.faces].astype(np.float64), 1, 0)
        assert abs((np.cross(a, b) * c).sum() / 6 / expected - 1) < 0.002, kind


def test_polish_puts_vertices_on_the_true_field():
    # Density falls off steeply: linear interpolation between 40 and 0 misses the level by a third of a cell.
    field = AnalyticField(lambda p: torch.exp(80 * (0.7 - p.norm(dim=1)).clamp(max=0.1)), level=1.0)
    away = [
        np.abs(
            np.linalg.norm(extract_surface(field, ExtractSettings(64, polish=n)).vertices, axis=1) - 0.7
        ).max()
        for n in (0, 1, 3)
    ]
    assert away[0] > 0.2 * 2 / 64 and away[1] < 0.6 * away[0] and away[2] < 0.25 * away[0]


def test_a_box_that_is_not_a_cube_and_not_whole_cells():
    field = AnalyticField(sphere(0.3), box=torch.tensor([[-1.0, -0.4, -0.35], [0.5, 0.4, 0.33]]))
    mesh = extract_surface(field, ExtractSettings(resolution=90))
    assert abs(np.linalg.norm(mesh.vertices, axis=1) - 0.3).max() < 1e-3 and closed(mesh.faces)


def test_thin_and_small_parts_are_kept():
    # A plate of 0.012 and a ball of 0.02 radius in a box of 2: the coarse cells are 0.033 wide, the fine ones 0.0083.
    def formula(p):
        plate = torch.minimum(0.006 - (p[:, 2] - 0.213).abs(), 0.497 - p[:, :2].abs().amax(1))
        ball = 0.02 - (p - torch.tensor([0.31, -0.52, -0.6])).norm(dim=1)
        return torch.maximum(plate, ball)

    field = AnalyticField(lambda p: -formula(p), "signed_distance")
    dense = extract_dense(field, 240)
    mesh = extract_surface(field, ExtractSettings(resolution=240, polish=0))
    assert len(mesh.faces) == len(dense[1])
    # The same as a density, of which nothing is known away from the surface, needs a seed for the ball.
    field = AnalyticField(lambda p: torch.sigmoid(400 * formula(p)), level=0.5)
    seeds = torch.tensor([[0.31, -0.52, -0.6], [0.0, 0.0, 0.213], [5.0, 0, 0]])
    seeded = extract_surface(field, ExtractSettings(resolution=240), seeds=seeds)
    assert len(seeded.faces) == len(dense[1])


def test_small_parts_of_an_exponential_density_are_found_without_seeds():
    # Reconstruction models: density = exp(network). 27 balls of radius 0.022; the coarse cells are 0.031 wide.
    # Told by the densities themselves instead of their logarithms, seven of them would be lost.
    def formula(points):
        beyond = ((points + 0.9) % 0.6 - 0.3).norm(dim=1) - 0.022
        return 25.0 * torch.exp((-60.0 * beyond).clamp(-7.0, 3.0))

    field = AnalyticField(formula, level=25.0)
    _, faces = extract_dense(field, 128)
    field.asked = 0
    mesh = extract_surface(field, ExtractSettings(resolution=128, polish=0))
    assert len(mesh.faces) == len(faces)
    assert face_parts(mesh.faces, len(mesh.vertices))[0] == 27
    assert field.asked < 0.15 * 129**3


def test_nothing_there_and_broken_fields():
    empty = extract_surface(AnalyticField(lambda p: -1 - p.norm(dim=1)), ExtractSettings(resolution=128))
    assert empty.vertices.shape == (0, 3) and empty.faces.shape == (0, 3)
    with pytest.raises(FailedError) as caught:
        extract_surface(AnalyticField(lambda p: p[:, 0] * torch.nan))
    assert caught.value.code == "FIELD_NOT_FINITE"
    with pytest.raises(FailedError) as caught:
        extract_surface(AnalyticField(sphere(0.9)), ExtractSettings(resolution=256, max_bytes=1 << 20))
    assert caught.value.code == "SURFACE_TOO_BIG"
