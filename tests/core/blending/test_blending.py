# SPDX-License-Identifier: GPL-3.0-or-later
"""Alignment, masks and losses of 3D-aware blending on cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maquette.core.blending.losses import BlendWeights, Target, blend_terms
from maquette.core.blending.masks import edit_mask, for_rays, mask_points, part_mask, ring, share_weight
from maquette.core.blending.registration import in_world, limited, register
from maquette.core.models.eg3d.cameras import frontal_label
from maquette.core.models.eg3d.rays import camera_rays
from maquette.core.models.face_parser.network import CLASSES, FaceParser
from torch import Tensor


def test_scale_and_translation_are_found() -> None:
    points = np.random.RandomState(0).rand(300, 3)
    target = 1.1 * points + [0.02, -0.01, 0.03]
    matrix, cost = register(points, target)
    np.testing.assert_allclose(matrix[:3, :3], np.eye(3) * 1.1, atol=2e-3)
    assert cost < 1e-5
    stretched = points * [1.1, 0.95, 1.0]
    matrix, _ = register(points, stretched, per_axis=True)
    np.testing.assert_allclose(np.diag(matrix), [1.1, 0.95, 1.0, 1.0], atol=0.01)


def test_degenerate_points_cannot_be_aligned() -> None:
    for source in (np.zeros((0, 3)), np.zeros((5, 3))):
        with pytest.raises(ValueError, match="align"):
            register(source, np.eye(4, 3))


def test_limits_and_axes() -> None:
    matrix = np.diag([1.5, 0.5, 1.0, 1.0])
    matrix[:3, 3] = [1, 2, 3]
    kept = limited(matrix)
    np.testing.assert_array_equal(np.diag(kept), [1.25, 0.75, 1.0, 1.0])
    np.testing.assert_array_equal(kept[:3, 3], [1, 2, 3])
    world = in_world(matrix)
    np.testing.assert_array_equal(world[:3, 3], [-3, 2, 1])
    np.testing.assert_array_equal(np.diag(world), [1.0, 0.5, 1.5, 1.0])


def test_parts_and_rings() -> None:
    classes = np.zeros((40, 40), int)
    classes[10:30, 10:30], classes[10:14, 10:30], classes[20:22, 14:18] = 1, 17, 4
    reference = np.zeros_like(classes)
    reference[20:22, 20:24] = 5
    assert edit_mask(classes, reference, "eyes").sum() == 2 * 8
    assert edit_mask(classes, reference, "face").sum() == 16 * 20
    assert part_mask(classes, "hair").sum() == 4 * 20
    disc = np.hypot(*(np.indices((81, 81)) - 40)) <= 10
    disc[38:43, 38:43] = False  # a hole is no border
    band = ring(disc, 5)
    assert not band[40, 40] and not (band & disc).any()
    distance = np.hypot(*(np.indices((81, 81)) - 40))
    assert band[(distance > 11) & (distance < 14.5)].all() and not band[distance > 16].any()


def test_points_behind_a_mask_lie_where_the_depth_says() -> None:
    label = torch.from_numpy(frontal_label(pivot=(0, 0, 0)))[None]
    origins, directions = (part[0] for part in camera_rays(label, 8))
    depth = torch.full((1, 8, 8), 2.0)
    opacity, mask = torch.ones(1, 8, 8), torch.zeros(1, 8, 8)
    mask[0, 2:4, 2:4] = 1
    opacity[0, 2, 2] = 0.2  # nothing is hit there
    points = mask_points(origins, directions, depth, opacity, mask)
    assert points.shape == (3, 3)
    np.testing.assert_allclose(np.linalg.norm(points - [0, 0, 2.7], axis=1), 2.0, atol=1e-5)
    assert (points[:, 0] < 0).all() and (points[:, 1] > 0).all()  # left and up in the picture


def target(mask: Tensor) -> Target:
    zeros, ones = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    return Target(mask, zeros, ones, torch.zeros(1, 6, 4, 4), torch.ones(1, 6, 4, 4))


def mean_difference(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean()


def test_the_wanted_blend_costs_nothing_and_every_term_counts_where_it_should() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4, :4] = 1  # a quarter of the picture
    rays = for_rays(mask, 4)
    assert float(share_weight(rays)) == 4.0
    wanted = target(mask)
    perfect = blend_terms(wanted, mask.expand(1, 3, 8, 8), rays.expand(1, 6, 4, 4), mean_difference)
    assert float(perfect.total(BlendWeights())) == 0.0
    original = blend_terms(wanted, wanted.original, wanted.original_sigma, mean_difference)
    assert [float(value) for value in (original.original_rgb, original.original_density)] == [0.0, 0.0]
    assert float(original.reference_density) == pytest.approx(
        1.0
    )  # a small region counts as much as a large one
    assert float(original.reference_perceptual) == pytest.approx(1.0)
    assert float(original.total(BlendWeights())) == pytest.approx(1.0 + 10 * 0.1)
    assert float(original.total(BlendWeights(colour=0.0))) == pytest.approx(1.0)  # shape alone
    assert float(original.total(BlendWeights(reference_density=0.0))) == pytest.approx(1.0)  # colour alone
    assert float(original.total(BlendWeights(density=0.0))) == pytest.approx(1.0)  # pictures alone
    reference = blend_terms(wanted, wanted.reference, wanted.reference_sigma, mean_difference)
    assert float(reference.original_rgb) == pytest.approx(0.75)
    assert float(reference.original_density) == pytest.approx(0.75)


def test_an_empty_mask_is_told() -> None:
    with pytest.raises(ValueError, match="empty"):
        share_weight(torch.zeros(1, 1, 4, 4))


def test_the_face_parser_answers_at_the_pictures_size() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        scores = FaceParser().eval()(torch.rand(1, 3, 64, 96))
    assert scores.shape == (1, CLASSES, 64, 96) and bool(scores.isfinite().all())
