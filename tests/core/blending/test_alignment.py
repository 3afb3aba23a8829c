# SPDX-License-Identifier: GPL-3.0-or-later
"""Counterparts of a head's points on another head, and where a part of the one stands on the other."""

from __future__ import annotations

import pytest
import torch
from maquette.core.blending.alignment import Placement, counterparts, fitted, rim_points
from maquette.core.blending.blend import seen
from maquette.core.blending.details import projected, surface_points
from maquette.core.models.eg3d.views import labels_around
from maquette.core.models.heads.codes import groups
from maquette.core.models.heads.generator import HeadGenerator, load_generator
from maquette.core.weights.networks import load_network
from torch import Tensor

from tests.core.pipelines.small_heads import FILE

SIDE = 64


@pytest.fixture(scope="module")
def ours() -> HeadGenerator:
    return load_generator()


@pytest.fixture(scope="module")
def heads(ours: HeadGenerator) -> tuple[Tensor, Tensor]:
    """Two heads without hair that differ in shape alone."""
    one = ours.z(4)
    one[:, groups()["hair"]] = 0
    one[:, groups()["hair"].stop - 1] = 3
    other = one.clone()
    other[:, groups()["shape"]] = ours.z(21)[:, groups()["shape"]]
    return ours.ws(one), ours.ws(other)


def face(side: int) -> Tensor:
    mask = torch.zeros(1, 1, side, side)
    mask[..., side * 7 // 16 : side * 9 // 16, side * 7 // 16 : side * 9 // 16] = 1
    return mask


def test_a_head_s_points_are_its_own_counterparts(ours: HeadGenerator, heads: tuple[Tensor, Tensor]) -> None:
    rendered = seen(ours.network, heads[0], ours.frontal, None, SIDE).rendered
    points = surface_points(rendered, ours.frontal, SIDE)[(rendered.opacity > 0.99).flatten()]
    found = counterparts(ours.network, (heads[0], heads[0]), points)
    torch.testing.assert_close(found, points, atol=1e-5, rtol=0)
    there = counterparts(ours.network, heads, points)
    assert float((there - points).norm(dim=1).mean()) > 0.003
    back = counterparts(ours.network, (heads[1], heads[0]), there)
    torch.testing.assert_close(back, points, atol=1e-3, rtol=0)  # 0.4 mm


def test_counterparts_of_a_surface_lie_on_the_other_surface(
    ours: HeadGenerator, heads: tuple[Tensor, Tensor]
) -> None:
    """How far in front of or behind the other head's surface they are, as the camera in front sees it."""
    network, label = ours.network, ours.frontal
    here, there = (seen(network, ws, label, None, SIDE).rendered for ws in heads)
    points = surface_points(here, label, SIDE)
    on_head = (here.opacity > 0.99).flatten() & (there.opacity > 0.99).flatten()

    def off(p: Tensor) -> float:
        place, far = projected(p, label)
        grid = (place * 2 - 1).view(1, 1, -1, 2)
        depth = torch.nn.functional.grid_sample(there.depth, grid, align_corners=False).flatten()
        return float((far - depth).abs()[on_head].median())

    raw, found = off(points), off(counterparts(network, heads, points))
    assert raw > 0.004
    assert found < raw / 3


def test_a_part_stands_where_its_rim_lies(ours: HeadGenerator, heads: tuple[Tensor, Tensor]) -> None:
    network, label, side = ours.network, ours.frontal, ours.network.config.picture
    same = fitted(network, heads[0], heads[0], label, face(side), worn=False)
    assert same.warp is not None
    torch.testing.assert_close(same.warp, torch.eye(4), atol=1e-5, rtol=0)
    place = fitted(network, *heads, label, face(side), worn=False)
    points = rim_points(network, heads[0], label, face(side))
    there = counterparts(network, heads, points)
    assert place.warp is not None and len(points) > 100
    moved = there @ place.warp[:3, :3].T + place.warp[:3, 3]
    torch.testing.assert_close(moved.mean(0), points.mean(0), atol=1e-5, rtol=0)
    assert float((moved - points).norm(dim=1).mean()) < float((there - points).norm(dim=1).mean())
    torch.testing.assert_close(place.back(network, heads[1])(moved), there, atol=1e-5, rtol=0)


def test_hair_takes_the_shape_of_the_head(ours: HeadGenerator, heads: tuple[Tensor, Tensor]) -> None:
    """The same features on the other's shape: a head that differs in shape alone becomes the other one, nearly."""
    network, label = ours.network, ours.frontal
    place = fitted(network, *heads, label, face(ours.network.config.picture), worn=True)
    assert place.bent_as is heads[0] and place.warp is None
    one, other = (seen(network, ws, label, None, SIDE).rendered for ws in heads)
    worn = place.seen(network, heads[1], SIDE).rendered
    apart = [float((r.opacity - one.opacity).abs().mean()) for r in (worn, other)]
    assert apart[0] < 0.3 * apart[1]


def test_planes_that_do_not_bend_stay_by_the_camera() -> None:
    network = load_network(FILE)[1].requires_grad_(False)
    ws = network.mapping(torch.zeros(1, network.config.z_width), torch.zeros(1, 25))
    label = labels_around(network, ((0.0, 0.0),))
    place = fitted(network, ws, ws, label, face(48), worn=True)
    assert place == Placement(label)
    points = torch.rand(5, 3)
    assert torch.equal(place.back(network, ws)(points), points)
