# SPDX-License-Identifier: GPL-3.0-or-later
"""A ball between two depth maps, seen with perspective."""

from pathlib import Path

import numpy as np
import torch
from maquette.core.fields.depth_layers import DepthLayers
from maquette.core.models.stored_field import load_field
from maquette.core.surface.extract import ExtractSettings, extract_surface

SIDE, RADIUS, NEARNESS = 128, 0.6, 0.3


def ball() -> DepthLayers:
    """Red in front, blue behind, green between; the camera stands at y = -1/0.3."""
    u = (torch.arange(SIDE, dtype=torch.float64) + 0.5) / SIDE * 2 - 1
    squared = u[None] ** 2 + u[:, None] ** 2  # a ray: (u, v) (1 + n y), so (1 + squared n^2) y^2 + ... = 0
    a, b, c = 1 + squared * NEARNESS**2, squared * NEARNESS, squared - RADIUS**2
    root = (b * b - a * c).clamp(min=0).sqrt()
    layers = torch.stack([(-b - root) / a, (-b + root) / a]).float()
    edge = RADIUS / np.sqrt(1 - (RADIUS * NEARNESS) ** 2)
    colours = torch.zeros(3, 3, SIDE, SIDE)
    colours[0, 0] = colours[1, 2] = colours[2, 1] = 1.0
    return DepthLayers(layers, (edge - squared.sqrt()).float(), colours, NEARNESS)


def test_a_ball_comes_out_round() -> None:
    mesh = extract_surface(ball(), ExtractSettings(resolution=96))
    radii = np.linalg.norm(mesh.vertices, axis=1)
    assert abs(np.median(radii) - RADIUS) < 0.002
    assert np.quantile(np.abs(radii - RADIUS), 0.95) < 0.01


def test_colours_go_from_front_to_back() -> None:
    rgb = ball().appearance(torch.tensor([[0.0, -0.59, 0.0], [0.1, 0.0, 0.1], [0.0, 0.59, 0.0]]))
    torch.testing.assert_close(rgb[0], torch.tensor([1.0, 0, 0]), atol=0.05, rtol=0)
    torch.testing.assert_close(rgb[1], torch.tensor([0.0, 1, 0]), atol=0.01, rtol=0)
    torch.testing.assert_close(rgb[2], torch.tensor([0.0, 0, 1]), atol=0.05, rtol=0)


def test_a_field_comes_back_from_its_file(tmp_path: Path) -> None:
    field, points = ball(), torch.rand(200, 3) * 2 - 1
    field.save(tmp_path / "field.safetensors")
    loaded = load_field(tmp_path / "field.safetensors")
    assert torch.equal(loaded.geometry(points), field.geometry(points))
    assert torch.equal(loaded.appearance(points), field.appearance(points))
    assert torch.equal(loaded.box, torch.tensor([[-1.0, -1.2, -1.0], [1.0, 1.2, 1.0]]))
