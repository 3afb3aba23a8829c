# SPDX-License-Identifier: GPL-3.0-or-later
"""What a region should look like: the reference's part in the original's tone, and the head below it."""

from __future__ import annotations

import pytest
import torch
from maquette.core.blending.blend import Seen, seen
from maquette.core.models.eg3d.rendering import Rendered
from maquette.core.pipelines.head_model import OpenModel, find_head_model
from maquette.core.pipelines.head_regions import part_mask, parts_of
from maquette.core.pipelines.head_wanted import Wanted, as_published, tone_between, wanted_of
from torch import Tensor

SIDE = 48


@pytest.fixture(scope="module")
def opened() -> OpenModel:
    return find_head_model("heads").open(torch.device("cpu"))


def wanted(opened: OpenModel, region: str, take: str = "both", seeds: tuple[int, int] = (3, 8)) -> Wanted:
    heads = opened.latent(seeds[0]), opened.latent(seeds[1])
    label = opened.portrait
    before = seen(opened.network, heads[0], label).picture
    parts = parts_of(before, label)
    own = torch.from_numpy(part_mask(parts, region)).float()[None, None]
    return wanted_of(opened, opened.network, heads, label, before, own, region, take)


def test_hair_is_wanted_where_it_is_and_the_head_below_it_elsewhere(opened: OpenModel) -> None:
    made = wanted(opened, "hair")
    assert made.shown is not None and 0.01 < float(made.shown.mean()) < 0.9
    assert torch.equal(made.tone, torch.ones(1, 3, 1, 1))  # hair keeps its colour
    assert made.place.bent_as is not None and not torch.equal(made.start, made.place.bent_as)
    picture, sigma = made.seen(opened.network)
    below = seen(opened.network, made.start, made.place.label)
    there = made.place.seen(opened.network, made.reference)
    hair = made.shown.expand_as(picture) > 0
    torch.testing.assert_close(picture[~hair], below.picture[~hair])
    torch.testing.assert_close(picture[hair], there.picture[hair])
    assert sigma.shape == there.rendered.sigma.shape


def test_shape_and_colour_go_over_one_by_one(opened: OpenModel) -> None:
    starts = {take: wanted(opened, "hair", take).start for take in ("both", "shape", "colour")}
    first = opened.latent(3)
    moves = {take: ws - first for take, ws in starts.items()}
    assert all(float(move.norm()) > 0.01 for move in moves.values())
    assert float((moves["shape"] - moves["colour"]).norm()) > 0.01
    assert torch.equal(wanted(opened, "nose").start, first)  # no group says a nose alone


def test_a_nose_comes_without_hair_and_in_the_tone_around_it(opened: OpenModel) -> None:
    made = wanted(opened, "nose")
    assert made.place.warp is not None and made.shown is not None
    assert torch.equal(made.place.warp[:3, :3], torch.eye(3))
    assert float(made.shown.mean()) < 1  # its hair is left out
    assert wanted(opened, "nose", "colour").tone.eq(1).all()


def flat(value: float) -> Seen:
    plane = torch.full((1, 3, SIDE, SIDE), value)
    one = torch.ones(1, 1, SIDE, SIDE)
    return Seen(Rendered(plane, one, one, one), plane)


def test_the_tone_is_a_factor_on_colours_from_black() -> None:
    """0.2 beside 0.4 of a range 0..1 asks for a factor of 2; beyond its limits it stays."""
    own = torch.zeros(1, 1, SIDE, SIDE)
    own[..., 20:28, 20:28] = 1
    before: Tensor = torch.full((1, 3, SIDE, SIDE), 0.4 * 2 - 1)
    torch.testing.assert_close(tone_between(flat(0.2 * 2 - 1), before, own), torch.full((1, 3, 1, 1), 2.0))
    torch.testing.assert_close(tone_between(flat(0.01 * 2 - 1), before, own), torch.full((1, 3, 1, 1), 2.5))
    nothing = torch.ones_like(own)  # no rim
    assert tone_between(flat(0.0), before, nothing).eq(1).all()


def test_as_published_takes_all_of_the_reference(opened: OpenModel) -> None:
    made = wanted(opened, "nose")
    plain = as_published(made.reference, made.place, made.start)
    there = made.place.seen(opened.network, made.reference)
    picture, sigma = plain.seen(opened.network)
    torch.testing.assert_close(picture, there.picture)
    assert torch.equal(sigma, there.rendered.sigma)
