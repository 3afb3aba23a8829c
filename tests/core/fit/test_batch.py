# SPDX-License-Identifier: GPL-3.0-or-later
"""The precomputed batch against the plain field of tests/reference/radiance.py, forward and backward."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from maquette.core.fields.sparse_grid import Cells
from maquette.core.fit.batch import Composite, Interpolate, Rays, make_batch
from maquette.core.render.samples import march, pack

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import radiance as reference

BOX = torch.tensor([[-1.0, -1.0, -0.5], [1.0, 1.0, 0.5]])


def rays(count: int) -> Rays:
    generator = torch.Generator().manual_seed(3)
    origins = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1) * 3
    targets = (torch.rand(count, 3, generator=generator) - 0.5) * torch.tensor([1.6, 1.6, 0.8])
    directions = torch.nn.functional.normalize(targets - origins, dim=-1)
    return Rays(
        origins, directions, torch.rand(count, 3), torch.ones(count), torch.zeros(count, dtype=torch.int64)
    )


def ball(shape: tuple[int, int, int] = (16, 16, 8)) -> Cells:
    centres = torch.stack(torch.meshgrid(*[(torch.arange(n) + 0.5) / 8 for n in shape], indexing="ij"), -1)
    return Cells(BOX, (centres - torch.tensor([1.0, 1.0, 0.5])).norm(dim=-1) < 0.45)


def test_samples_lie_in_occupied_cells_and_none_is_missed() -> None:
    cells, some = ball(), rays(200)
    step = cells.size / 2
    met, ray, depth = march(cells, some.origins, some.directions, step)
    # The plain way: every step of every ray through the box.
    low, high = BOX
    a, b = (low - some.origins) / some.directions, (high - some.origins) / some.directions
    near = torch.minimum(a, b).amax(-1)
    steps = torch.arange(400)
    along = near[:, None] + (steps + 0.5) * step
    points = some.origins[:, None] + some.directions[:, None] * along[..., None]
    inside = cells.is_occupied(cells.cell_units(points.reshape(-1, 3))).reshape(200, 400)
    assert len(ray) > 500
    counted = torch.bincount(met[ray], minlength=200)
    assert (counted - inside.sum(1)).abs().max() <= 1  # rounding on a cell's border
    assert (counted == inside.sum(1)).float().mean() > 0.97
    assert torch.equal(torch.sort(ray)[0], ray)
    for one in ray.unique()[:20]:
        assert (depth[ray == one].diff() > 0).all()


@pytest.mark.parametrize("channels", [1, 5])
def test_interpolation_equals_grid_sample_forward_and_backward(channels: int) -> None:
    cells = ball()
    batch = make_batch(cells, rays(300), cells.size)
    assert batch is not None
    table = torch.randn(len(cells), channels, requires_grad=True)
    fast = Interpolate.apply(table, batch)
    dense = torch.zeros(17 * 17 * 9, channels)
    dense = dense.index_put((cells.vertices,), table).reshape(17, 17, 9, channels)
    points = (
        batch.rays.origins[batch.samples.ray]
        + batch.rays.directions[batch.samples.ray] * batch.samples.depth[:, None]
    )
    slow = reference.interpolate(dense, cells.cell_units(points))
    assert torch.allclose(fast, slow, atol=2e-5)  # 2e-5: positions in cells are rounded differently
    weight = torch.randn_like(fast)
    (fast_gradient,) = torch.autograd.grad((fast * weight).sum(), table, retain_graph=True)
    (slow_gradient,) = torch.autograd.grad((slow * weight).sum(), table)
    assert torch.allclose(fast_gradient, slow_gradient, atol=5e-4)


def test_compositing_equals_the_product_of_transmittances_forward_and_backward() -> None:
    cells = ball()
    batch = make_batch(cells, rays(100), cells.size)
    assert batch is not None
    n = batch.sample_count
    depths = torch.rand(n, requires_grad=True)
    features = torch.randn(n, 4, requires_grad=True)
    colour, opacity = Composite.apply(depths, features, batch.samples)
    counts = torch.bincount(batch.samples.ray).tolist()
    expected, expected_opacity = reference.composite(list(depths.split(counts)), list(features.split(counts)))
    assert torch.allclose(colour, expected, atol=1e-5)
    assert torch.allclose(opacity, expected_opacity, atol=1e-5)
    goal, goal_opacity = torch.randn_like(colour), torch.randn_like(opacity)
    fast = torch.autograd.grad((colour * goal).sum() + (opacity * goal_opacity).sum(), [depths, features])
    slow = torch.autograd.grad(
        (expected * goal).sum() + (expected_opacity * goal_opacity).sum(), [depths, features]
    )
    for one, other in zip(fast, slow, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_one_opaque_sample_by_hand() -> None:
    # Optical depths ln 2 and ln 4: weights 1/2 and (1/2)(3/4) = 3/8, opacity 7/8.
    samples = pack(torch.zeros(2, dtype=torch.int64), torch.tensor([1.0, 2.0]), 1)
    colour, opacity = Composite.apply(torch.tensor([2.0, 4.0]).log(), torch.eye(2), samples)
    assert torch.allclose(colour, torch.tensor([[0.5, 0.375]]))
    assert torch.allclose(opacity, torch.tensor([0.875]))


def test_rays_end_behind_an_opaque_wall() -> None:
    # A bar of 32 cells along x, opaque in its first 4: light ends there, four cells more are kept, the rest is not sampled.
    box = torch.tensor([[0.0, 0.0, 0.0], [32.0, 1.0, 1.0]])
    cells = Cells(box, torch.ones(32, 1, 1, dtype=torch.bool))
    depths = torch.zeros(32)
    depths[:4] = 10.0
    origin, direction = torch.tensor([[-5.0, 0.5, 0.5]]), torch.tensor([[1.0, 0.0, 0.0]])
    _, _, every = march(cells, origin, direction, 1.0)
    _, _, shown = march(cells, origin, direction, 1.0, depths)
    assert len(every) == 32
    assert torch.equal(shown, every[:8])
