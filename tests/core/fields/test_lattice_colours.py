# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours from a lattice: linear ones exactly, others nearly, each lattice point asked for once."""

from __future__ import annotations

import torch
from maquette.core.fields.lattice_colours import LatticeColours
from maquette.core.fields.triplane import PlaneDecoder, TriplaneField, TriplaneRule
from torch import Tensor


class Counting:
    """Colours 0.5 + 0.2 (x, y, z) in an uneven box; counts what it is asked."""

    box = torch.tensor([[-1.0, -2.0, 0.0], [1.0, 2.0, 3.0]])
    kind, level, has_geometry, has_appearance, channels = "density", 1.0, True, True, 3
    asked = 0

    def geometry(self, points: Tensor) -> Tensor:
        return points[:, 0]

    def appearance(
        self, points: Tensor, directions: Tensor | None = None, normals: Tensor | None = None
    ) -> Tensor:
        self.asked += len(points)
        return 0.5 + 0.2 * points


def test_linear_colours_are_exact_and_asked_for_once() -> None:
    field = Counting()
    lattice = LatticeColours(field, 8)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    points = field.box[0] + torch.rand((5000, 3), generator=generator) * (field.box[1] - field.box[0])
    torch.testing.assert_close(lattice.appearance(points), 0.5 + 0.2 * points, atol=1e-5, rtol=0)
    torch.testing.assert_close(lattice.appearance(field.box), 0.5 + 0.2 * field.box, atol=1e-5, rtol=0)
    assert field.asked <= 9**3
    asked = field.asked
    lattice.appearance(points)
    assert field.asked == asked
    assert torch.equal(lattice.geometry(points), points[:, 0])


def test_a_tri_plane_twice_as_coarse_is_nearly_as_it_was() -> None:
    torch.manual_seed(0)
    field = TriplaneField(
        torch.randn(3, 6, 16, 16) * 0.5, PlaneDecoder(18, 16, 2).requires_grad_(False), TriplaneRule()
    )
    direction = torch.nn.functional.normalize(torch.randn(4000, 3), dim=1) * 0.6
    difference = (LatticeColours(field, 48).appearance(direction) - field.appearance(direction)).abs()
    assert float(difference.mean()) < 2e-3
    assert float(difference.max()) < 0.03
