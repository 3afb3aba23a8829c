# SPDX-License-Identifier: GPL-3.0-or-later
"""Traits that go from one head to another: what the code would have given, and nothing else."""

from __future__ import annotations

import pytest
import torch
from maquette.core.models.heads.codes import groups
from maquette.core.models.heads.generator import HeadGenerator, load_generator
from maquette.core.models.heads.traits import nearest_code, with_traits


@pytest.fixture(scope="module")
def ours() -> HeadGenerator:
    return load_generator()


def test_the_code_of_a_latent_is_found_again(ours: HeadGenerator) -> None:
    code = ours.z(5)
    found = nearest_code(ours.network, ours.ws(code), ours.frontal)
    alike = torch.nn.functional.cosine_similarity(found, code)  # the mapping sees no length
    assert float(alike) > 0.93
    missed = (ours.ws(found) - ours.ws(code)).square().mean()
    assert float(missed) < 1e-3 * float(ours.ws(ours.z(0, 64)).var(0).mean())


def test_hair_goes_over_and_the_rest_stays(ours: HeadGenerator) -> None:
    """Of two sampled heads the exchange is known: the latent of the code with the other's hair. What an inversion added stays added."""
    one, other = ours.z(5), ours.z(9)
    names = ("hair", "hair_colour")
    swapped = one.clone()
    for name in names:
        swapped[:, groups()[name]] = other[:, groups()[name]]
    wanted, start = ours.ws(swapped), ours.ws(one)
    found = with_traits(ours.network, start, ours.ws(other), ours.frontal, names)
    missed = (found - wanted).norm() / (wanted - start).norm()
    assert float(missed) < 0.2  # the search for a code ends early
    extra = 0.01 * torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    extra = extra - extra.mean(1, keepdim=True)  # rows of their own, as inversions find them
    again = with_traits(ours.network, start + extra, ours.ws(other), ours.frontal, names)
    assert (
        float((again - found - extra).norm() / (found - start).norm()) < 0.1
    )  # an early end is not quite repeatable


def test_no_group_changes_nothing(ours: HeadGenerator) -> None:
    start = ours.ws(ours.z(5))
    same = with_traits(ours.network, start, ours.ws(ours.z(9)), ours.frontal, ())
    torch.testing.assert_close(same, start, atol=1e-6, rtol=0)
