# SPDX-License-Identifier: GPL-3.0-or-later
"""The published point selection: counts of the specification, and the closed form of a full octree."""

from __future__ import annotations

import numpy as np
from maquette.core.surface.mise import Mise, mise_values

from tests.reference.dense_mise import dense_mise

LEVEL = np.log(0.2) - np.log(0.8)


def test_sphere_counts_of_the_specification() -> None:
    octree = mise_values(lambda p: 12 * (0.37 - np.linalg.norm(p, axis=1)), 8, 2, LEVEL, 1.1)
    assert octree.points_per_round == [729, 2258, 8984]


def test_points_are_those_of_the_rule_read_off_dense_arrays() -> None:
    def gyroid(p: np.ndarray) -> np.ndarray:
        """Thin sheets, so that fine points on shared faces wake coarse neighbours in later rounds."""
        s, c = np.sin(4 * np.pi * p), np.cos(4 * np.pi * p)
        return 8 * (0.1 - np.abs((s * np.roll(c, -1, 1)).sum(1)))

    octree = mise_values(gyroid, 4, 3, LEVEL, 1.1)
    rounds, known = dense_mise(gyroid, 4, 3, LEVEL, 1.1)
    assert octree.points_per_round == rounds and len(rounds) == 8
    assert np.array_equal(octree.known()[0], known)


def test_a_field_without_surface_costs_the_first_grid() -> None:
    octree = mise_values(lambda p: -3 - np.abs(p).sum(1), 8, 2, LEVEL, 1.1)
    assert octree.points_per_round == [729]
    assert len(octree.known()[0]) == 9**3


def test_dense_copies_the_value_before_a_hole() -> None:
    octree = Mise(1, 1, 0.5)  # corners of one cube of edge 2, all below the level: nothing is refined
    octree.update(np.arange(8) / 100.0)
    assert len(octree.query()) == 0
    grid = octree.dense()
    assert grid.shape == (3, 3, 3)
    assert grid[1, 0, 0] == grid[0, 0, 0] == 0.0
    assert grid[0, 0, 1] == 0.0
    assert grid[2, 2, 1] == grid[2, 2, 0] == 0.06
