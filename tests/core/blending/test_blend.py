# SPDX-License-Identifier: GPL-3.0-or-later
"""The blend of two known heads, its local alignment, and seamless cloning."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from maquette.core.blending.alignment import part_warp
from maquette.core.blending.blend import BlendEffort, blend, seen, target_of
from maquette.core.blending.losses import BlendWeights, Target
from maquette.core.blending.poisson import seamless_clone, with_ring
from maquette.core.fit.picture_distance import psnr, pyramid_distance
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.eg3d.views import labels_around
from maquette.core.weights.networks import load_network
from torch import Tensor

from tests.core.fit.test_inversion import latent
from tests.core.pipelines.small_heads import FILE


@pytest.fixture(scope="module")
def toy() -> Eg3d:
    network = load_network(FILE)[1]
    assert isinstance(network, Eg3d)
    return network.requires_grad_(False)


def target(
    network: Eg3d, heads: tuple[Tensor, Tensor], label: Tensor, mask: Tensor, resolution: int | None
) -> Target:
    first, second = (seen(network, ws, label, None, resolution) for ws in heads)
    whole = seen(network, heads[0], label).picture
    wanted = second.picture if resolution is None else second.rendered.image
    return target_of(mask, whole, first.rendered, wanted, second.rendered.sigma, resolution is not None)


def test_a_region_of_the_reference_comes_and_the_rest_stays(toy: Eg3d) -> None:
    heads, label = (latent(toy, 3), latent(toy, 8)), labels_around(toy, ((0.1, 0.0),))
    mask = torch.zeros(1, 1, 48, 48)
    mask[..., :20, :] = 1  # the hair
    before, wanted = (seen(toy, ws, label).picture for ws in heads)
    effort = BlendEffort(40, 0.03, weights=BlendWeights(density=0.1, reference=1.0))
    ws = blend(toy, heads[0], label, partial(target, toy, heads, label, mask), effort, pyramid_distance)
    after = seen(toy, ws, label).picture
    assert psnr(after, wanted, mask) > psnr(before, wanted, mask) + 3
    assert psnr(after, before, 1 - mask) > 25
    again = blend(toy, heads[0], label, partial(target, toy, heads, label, mask), effort, pyramid_distance)
    assert torch.equal(ws, again)


def test_shape_without_colour(toy: Eg3d) -> None:
    """With the reference's colours weighted 0 densities come nearer to it all the same; without densities they do not."""
    heads, label = (latent(toy, 3), latent(toy, 8)), labels_around(toy, ((0.0, 0.0),))
    mask = torch.ones(1, 1, 48, 48)
    wanted = seen(toy, heads[1], label).rendered.sigma
    gaps = {}
    for name, weights in {
        "shape": BlendWeights(colour=0.0, image=0.0, density=1.0),
        "pictures": BlendWeights(density=0.0, colour=0.0),
    }.items():
        effort = BlendEffort(25, 0.03, weights=weights)
        ws = blend(toy, heads[0], label, partial(target, toy, heads, label, mask), effort, pyramid_distance)
        gaps[name] = float((seen(toy, ws, label).rendered.sigma - wanted).abs().mean())
    first = float((seen(toy, heads[0], label).rendered.sigma - wanted).abs().mean())
    assert gaps["shape"] < 0.6 * first
    assert gaps["pictures"] > 0.9 * first


def test_a_part_is_laid_over_the_others_place(toy: Eg3d) -> None:
    """The same head, seen moved: its part goes back to where it was. A mask beside the head gives nothing."""
    ws, label = latent(toy, 3), labels_around(toy, ((0.0, 0.0),))
    left, right = torch.zeros(1, 1, 48, 48), torch.zeros(1, 1, 48, 48)
    left[..., 18:28, 18:28] = 1
    right[..., 18:28, 22:32] = 1
    matrix = part_warp(toy, ws, ws, label, (left, right))
    assert matrix is not None
    step = 4 / 48 / 4.2647 * 2.45  # four pixels at the surface
    assert float(matrix[0, 3] + (matrix[0, 0] - 1) * 0.03) == pytest.approx(-step, abs=0.5 * step)
    assert 0.75 <= float(matrix[0, 0]) <= 1.25
    corner = torch.zeros(1, 1, 48, 48)
    corner[..., :3, :3] = 1
    assert part_warp(toy, ws, ws, label, (left, corner)) is None


def test_an_empty_mask_is_refused(toy: Eg3d) -> None:
    heads, label = (latent(toy, 3), latent(toy, 8)), labels_around(toy, ((0.0, 0.0),))
    with pytest.raises(ValueError, match="empty"):
        blend(
            toy, heads[0], label, partial(target, toy, heads, label, torch.zeros(1, 1, 48, 48)), BlendEffort(2),
            pyramid_distance,
        )  # fmt: skip


def test_a_clone_takes_gradients_and_leaves_the_border() -> None:
    y, x = np.mgrid[:24, :30].astype(np.float32) / 30
    source = np.dstack([x * x, y, x * y]).astype(np.float32)
    mask = np.zeros((24, 30), bool)
    mask[5:15, 8:20] = True
    # A destination that is the source but for a constant: the clone is the destination.
    out = seamless_clone(source, source + 0.3, mask)
    np.testing.assert_allclose(out, source + 0.3, atol=1e-5)
    # A flat destination: its border stays, inside the differences are the source's.
    flat = np.full_like(source, 0.5)
    out = seamless_clone(source, flat, mask)
    assert np.array_equal(out[~mask], flat[~mask])
    laplace = [4 * p[9, 12] - p[8, 12] - p[10, 12] - p[9, 11] - p[9, 13] for p in (out, source)]
    np.testing.assert_allclose(*laplace, atol=1e-5)
    # At the picture's border nothing is asked across it.
    edge = np.zeros((24, 30), bool)
    edge[:6, :8] = True
    np.testing.assert_allclose(seamless_clone(source, source + 0.3, edge), source + 0.3, atol=1e-5)
    np.testing.assert_allclose(
        seamless_clone(source, source * 0 + 0.2, np.ones((24, 30), bool)).mean((0, 1)), 0.2, atol=1e-6
    )
    assert np.array_equal(seamless_clone(source, flat, mask & False), flat)


def test_a_ring() -> None:
    mask = np.zeros((20, 20), bool)
    mask[10, 10] = True
    assert with_ring(mask, 3).sum() == 29  # pixels within a distance of 3
