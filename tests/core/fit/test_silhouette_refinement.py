# SPDX-License-Identifier: GPL-3.0-or-later
"""A ball in a tri-plane, refined to the outline of an egg with a spike: the outline comes, the depth stays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from maquette.core.fields.triplane import PlaneDecoder, TriplaneField, TriplaneRule
from maquette.core.fit.silhouette_refinement import RefinementSettings, raw_level, refine_to_mask
from maquette.core.poses.silhouette_camera import overlap
from maquette.core.surface.extract import ExtractSettings, extract_surface
from maquette.core.types import Camera, Mesh

POSE = np.array([[1.0, 0, 0, 0], [0, 0, 1, -4], [0, -1, 0, 0], [0, 0, 0, 1]])  # at -y, looks along +y, z up
CAMERA = Camera("photo", 200, 160, 360.0, 360.0, 100.0, 80.0, POSE)


def ball(radius: float = 0.55, side: int = 32) -> TriplaneField:
    """raw = 8 (radius^2 - x^2 - y^2 - z^2), exactly at the planes' centres."""
    axis = ((torch.arange(side) + 0.5) / side * 2 - 1) ** 2
    facing = radius**2 - axis[None] - axis[:, None]  # rows z, columns x
    above = (-axis[:, None]).expand(side, side)  # rows y, columns x
    planes = 8 * torch.stack([facing, above, torch.zeros(side, side)])[:, None]
    decoder = PlaneDecoder(3, 1, 0)
    with torch.no_grad():
        decoder.layers[0].weight.zero_()  # type: ignore[operator, union-attr]
        decoder.layers[0].weight[0] = 1.0  # type: ignore[index, union-attr]
        decoder.layers[0].bias.zero_()  # type: ignore[operator, union-attr]
    rule = TriplaneRule(axes=((0, 2), (0, 1), (1, 2)), density_bias=0.0, level=1.0)
    return TriplaneField(planes, decoder.requires_grad_(False), rule)


def egg() -> np.ndarray:
    """(160, 200) float32: wider than the ball's outline, less high, with a spike on top."""
    y, x = np.mgrid[0:160, 0:200] + 0.5
    inside = ((x - 100) / 66) ** 2 + ((y - 80) / 42) ** 2 < 1
    return (inside | ((np.abs(x - 105) < 5) & (y > 18) & (y < 80))).astype(np.float32)


def surface(field: TriplaneField) -> Mesh:
    return extract_surface(field, ExtractSettings(resolution=48))


def test_outline_comes_and_depth_stays() -> None:
    field, mask = ball(), egg()
    before = surface(field)
    refined = refine_to_mask(field, CAMERA, mask)
    after = surface(refined)
    scores = [overlap(mesh.vertices, mesh.faces, mask, CAMERA) for mesh in (before, after)]
    print(scores)
    assert scores[0] < 0.75
    assert scores[1] > 0.93
    assert np.ptp(after.vertices[:, 1]) == pytest.approx(np.ptp(before.vertices[:, 1]), abs=0.12)
    torch.testing.assert_close(field.planes, ball().planes)
    again = refine_to_mask(ball(), CAMERA, mask, RefinementSettings())
    torch.testing.assert_close(again.planes, refined.planes, rtol=0, atol=0)


def test_where_the_outline_is_right_the_surface_stays() -> None:
    y, x = np.mgrid[0:160, 0:200] + 0.5
    tangent = 360 * 0.55 / math.sqrt(16 - 0.55**2)
    mask = (np.hypot(x - 100, y - 80) < tangent).astype(np.float32)
    radii = np.linalg.norm(surface(refine_to_mask(ball(), CAMERA, mask)).vertices, axis=1)
    print(radii.min(), radii.max())
    assert abs(radii - 0.55).mean() < 0.02
    assert abs(radii - 0.55).max() < 0.06


@pytest.mark.parametrize(
    ("rule", "raw"),
    [
        (TriplaneRule(level=25.0, density_bias=-1.0), 1 + math.log(25)),
        (TriplaneRule(level=3.0, density="softplus", density_bias=-1.0), 1 + math.log(math.e**3 - 1)),
    ],
)
def test_raw_level_is_where_the_density_is_the_level(rule: TriplaneRule, raw: float) -> None:
    assert raw_level(rule) == pytest.approx(raw)
    field = TriplaneField(ball().planes, ball().decoder, rule)
    assert float(field.density_of(torch.tensor(raw_level(rule)))) == pytest.approx(rule.level)
