# SPDX-License-Identifier: GPL-3.0-or-later
"""A residual moved by depth: to the same camera it stays, to another it follows the surface, and hidden places get none."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from maquette.core.blending.blend import seen
from maquette.core.blending.details import (
    ALIKE,
    AROUND,
    Details,
    moved_by_depth,
    projected,
    surface_points,
    with_details,
)
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.eg3d.views import labels_around
from maquette.core.weights.networks import load_network

from tests.core.fit.test_inversion import latent
from tests.core.pipelines.small_heads import FILE


@pytest.fixture(scope="module")
def toy() -> Eg3d:
    network = load_network(FILE)[1]
    assert isinstance(network, Eg3d)
    return network.requires_grad_(False)


def test_to_the_same_camera_it_stays(toy: Eg3d) -> None:
    ws, label = latent(toy, 3), labels_around(toy, ((0.1, 0.0),))
    rendered = seen(toy, ws, label).rendered
    wave = torch.sin(torch.arange(48.0) / 4).expand(1, 3, 48, 48)
    moved = moved_by_depth(wave, rendered, label, rendered, label)
    middle = (slice(None), slice(None), slice(18, 30), slice(18, 30))
    torch.testing.assert_close(moved[middle], wave[middle], atol=0.02, rtol=0)
    assert float(moved[..., :3, :3].abs().max()) == 0  # nothing of the head is there


def test_to_another_camera_it_follows_the_surface(toy: Eg3d) -> None:
    ws, labels = latent(toy, 3), labels_around(toy, ((0.0, 0.0), (0.35, 0.0)))
    front, aside = labels[:1], labels[1:]
    there, here = (seen(toy, ws, label).rendered for label in (front, aside))
    spot = torch.zeros(1, 3, 48, 48)
    spot[..., 22:26, 22:26] = 1
    moved = moved_by_depth(spot, there, front, here, aside)
    # The surface in the middle of the frontal picture, as the other camera sees it.
    points = surface_points(there, front, 48).view(48, 48, 3)[24, 24][None]
    place, _ = projected(points, aside)
    rows, columns = (moved[0, 0].sum(axis) for axis in (1, 0))
    line = (torch.arange(48) + 0.5) / 48
    centre = torch.stack([(columns * line).sum() / columns.sum(), (rows * line).sum() / rows.sum()])
    torch.testing.assert_close(centre, place[0], atol=0.02, rtol=0)
    assert abs(float(centre[0]) - 0.5) > 0.03  # it did move


def test_what_the_first_camera_does_not_see_gets_nothing(toy: Eg3d) -> None:
    ws, labels = latent(toy, 3), labels_around(toy, ((0.0, 0.0), (1.0, 0.0)))
    there, here = (seen(toy, ws, label[None]).rendered for label in labels)
    moved = moved_by_depth(torch.ones(1, 3, 48, 48), there, labels[:1], here, labels[1:])
    inside = F.interpolate(here.opacity, size=(48, 48)) > 0.95
    share = float((moved[:, :1] > 0.5)[inside].float().mean())
    assert 0.1 < share < 0.8  # part of what is seen from aside was seen from in front


def test_each_photo_gives_what_lies_on_its_side() -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1
    after = torch.full((1, 3, 16, 16), 0.1)
    own, other = (Details(torch.full_like(after, value), after) for value in (0.2, -0.3))
    out = with_details(after, mask, own, other)
    torch.testing.assert_close(out[..., 2], torch.full((1, 3, 16), 0.3))
    torch.testing.assert_close(out[..., 13], torch.full((1, 3, 16), -0.2))
    assert -0.2 < float(out[0, 0, 8, 8]) < 0.3  # feathered between


def test_a_residual_counts_where_the_blend_is_what_it_corrects() -> None:
    """Half of the picture has changed by `ALIKE`: exp(-1) of the residual is left there, and for the width of the window beside it."""
    side, reach = 64, 64 // AROUND // 2
    after = torch.zeros(1, 3, side, side)
    after[..., side // 2 :] = ALIKE
    out = with_details(
        after,
        torch.zeros(1, 1, side, side),
        Details(torch.full_like(after, 0.1), torch.zeros_like(after)),
        Details(after, after),
    )
    added = (out - after)[0, 0, 32]
    torch.testing.assert_close(added[: side // 2 - reach - 3], torch.full((side // 2 - reach - 3,), 0.1))
    torch.testing.assert_close(
        added[side // 2 + 2 :], torch.full((side // 2 - 2,), 0.1 * math.exp(-1)), atol=1e-5, rtol=0
    )
