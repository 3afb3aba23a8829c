# SPDX-License-Identifier: GPL-3.0-or-later
"""Inversion of a picture whose latent and camera are known; camera numbers; distances of pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from maquette.core.errors import Cancelled
from maquette.core.fit.head_camera import moved_label
from maquette.core.fit.inversion import InversionSettings, Pivot, Portrait, find_pivot, likeness, shown, tune
from maquette.core.fit.picture_distance import psnr, pyramid_distance
from maquette.core.models.eg3d.cameras import camera_of
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.eg3d.views import labels_around
from maquette.core.progress import Progress
from maquette.core.weights.networks import load_network
from torch import Tensor

from tests.core.pipelines.small_heads import FILE

ORIGIN = (0.0, 0.0, 0.0)
QUICK = InversionSettings(latent_steps=45, tuning_steps=8, tries=5, camera_kept=0.0)


@pytest.fixture(scope="module")
def toy() -> Eg3d:
    network = load_network(FILE)[1]
    assert isinstance(network, Eg3d)
    return network.requires_grad_(False)


def latent(network: Eg3d, seed: int) -> Tensor:
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, 5)).float()
    return network.mapping(z, torch.zeros(1, 25))


def mean(network: Eg3d) -> Tensor:
    return network.backbone.mapping.w_avg.expand(1, network.config.rows, -1)


def portrait(network: Eg3d, seed: int, yaw: float) -> tuple[Portrait, Tensor]:
    """A known head seen from `yaw`, believed to be seen from in front; and the true label."""
    (true,), (guess,) = (labels_around(network, ((angle, 0.05),)) for angle in (yaw, 0.0))
    rendered, picture = shown(network, latent(network, seed), true[None])
    mask = F.interpolate(rendered.opacity, size=picture.shape[2:]).clamp(0, 1)
    return Portrait(picture, guess[None], mask), true[None]


def direction_deg(a: Tensor, b: Tensor) -> float:
    first, second = (label[0, :16].view(4, 4)[:3, 2] for label in (a, b))
    return math.degrees(math.acos(min(float(first @ second), 1.0)))


def test_latent_and_camera_of_a_known_head_are_found(toy: Eg3d) -> None:
    wanted, true = portrait(toy, 5, 0.18)
    assert direction_deg(wanted.label, true) > 9
    start = Pivot(wanted, mean(toy), wanted.label)
    found = find_pivot(toy, wanted, [(mean(toy), wanted.label)], QUICK)
    assert likeness(toy, found) > likeness(toy, start) + 5
    assert direction_deg(found.label, true) < 3.5
    again = find_pivot(toy, wanted, [(mean(toy), wanted.label)], QUICK)
    assert torch.equal(found.ws, again.ws) and torch.equal(found.label, again.label)


def test_a_camera_that_is_believed_stays(toy: Eg3d) -> None:
    wanted, true = portrait(toy, 5, 0.18)
    firm = InversionSettings(latent_steps=20, camera_kept=10.0)
    found = find_pivot(toy, wanted, [(mean(toy), wanted.label)], firm)
    assert direction_deg(found.label, wanted.label) < 1 < direction_deg(found.label, true)


def test_of_several_starts_the_best_goes_on(toy: Eg3d) -> None:
    wanted, true = portrait(toy, 2, 0.5)
    ((far,),) = (labels_around(toy, ((-0.6, 0.0),)),)
    ((near,),) = (labels_around(toy, ((0.42, 0.0),)),)
    settings = InversionSettings(latent_steps=30, tries=6, camera_kept=0.0)
    found = find_pivot(toy, wanted, [(mean(toy), far[None]), (mean(toy), near[None])], settings)
    assert direction_deg(found.label, true) < 6


def test_tuning_explains_what_no_latent_does_and_keeps_other_heads(toy: Eg3d) -> None:
    wanted, true = portrait(toy, 5, 0.0)
    strange = wanted.picture.flip(1)  # red and blue change places: no latent has such skin
    pivot = Pivot(Portrait(strange, true), latent(toy, 5), true)
    before = {name: value.clone() for name, value in toy.state_dict().items()}
    settings = InversionSettings(tuning_steps=25)
    tuned = tune(toy, [pivot], lambda seed: latent(toy, seed), settings)
    assert likeness(tuned, pivot) > likeness(toy, pivot) + 1
    assert all(torch.equal(value, toy.state_dict()[name]) for name, value in before.items())
    loose = tune(
        toy, [pivot], lambda seed: latent(toy, seed), InversionSettings(tuning_steps=25, regular=0.0)
    )
    held = [
        psnr(shown(network, latent(toy, 77), true)[1], shown(toy, latent(toy, 77), true)[1])
        for network in (tuned, loose)
    ]
    assert held[0] > held[1]


def test_a_cancel_ends_it_between_steps(toy: Eg3d) -> None:
    wanted, _ = portrait(toy, 1, 0.0)
    asked = iter([False, False, False, True])
    with pytest.raises(Cancelled):
        find_pivot(
            toy, wanted, [(mean(toy), wanted.label)], QUICK, progress=Progress(None, lambda: next(asked))
        )


def test_six_numbers_move_a_camera_about_its_pivot() -> None:
    label = torch.from_numpy(np.float32(_frontal()))[None]
    torch.testing.assert_close(moved_label(label, torch.zeros(6), ORIGIN), label)
    pivot = (0.02, 0.1, 0.2)
    turned = moved_label(label, torch.tensor([0.1, -0.3, 0.2, 0.0, 0.0, 0.0]), pivot)
    for given in (label, turned):
        pixels, depth = camera_of(given[0].numpy(), 100).project(np.array([pivot]))
        torch.testing.assert_close(
            torch.from_numpy(pixels[0]), torch.from_numpy(camera_of(label[0].numpy(), 100).project(np.array([pivot]))[0][0]),
            atol=2e-3, rtol=0,
        )  # fmt: skip
        assert depth[0] == pytest.approx(2.5, abs=0.01)
    larger = camera_of(
        moved_label(label, torch.tensor([0, 0, 0, 0.1, -0.05, math.log(1.2)]), pivot)[0].numpy(), 100
    )
    plain = camera_of(label[0].numpy(), 100)
    assert (larger.fx / plain.fx, larger.cx - plain.cx, larger.cy - plain.cy) == pytest.approx(
        (1.2, 10, -5), abs=1e-3
    )


def _frontal() -> np.ndarray:
    from maquette.core.models.eg3d.cameras import frontal_label

    return frontal_label()


def test_distances_of_pictures() -> None:
    a = torch.rand(1, 3, 64, 64) * 2 - 1
    assert float(pyramid_distance(a, a)) == 0
    # A constant offset has no gradients: its size at each of four scales (64, 32, 16, 8).
    assert float(pyramid_distance(a, a + 0.2)) == pytest.approx(0.2, abs=1e-5)
    blurred = F.avg_pool2d(F.pad(a, (1, 1, 1, 1), mode="replicate"), 3, 1)
    assert float(pyramid_distance(a, blurred)) > float((a - blurred).abs().mean())
    assert psnr(a, a + 0.2) == pytest.approx(20, abs=1e-3)  # 0.1 of the range 0..1
    weight = torch.zeros(1, 1, 64, 64)
    weight[..., :8, :8] = 1
    b = a.clone()
    b[..., 8:, 8:] = 0
    assert psnr(a, b, weight) == pytest.approx(99)
