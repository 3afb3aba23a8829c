# SPDX-License-Identifier: GPL-3.0-or-later
"""LoFTR: parity, the parts that have a closed form, and the use that One-2-3-45 makes of it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from maquette.core.models.loftr.near_views import match_near_views
from maquette.core.models.loftr.network import (
    LinearAttentionLayer,
    LoFTR,
    LoFTRConfig,
    Matches,
    expected_offset,
    positions,
    windows,
)

from tests.parity_checks.lrm_matching import CHECKS
from tests.parity_checks.lrm_run import needs_fixtures, worst
from tests.reference.published_file import filled

TINY = LoFTRConfig(4, (4, 6, 8), ("self", "cross"), ("self",), 2, 2)


@needs_fixtures
def test_every_array_equals_the_published_one() -> None:
    assert worst("loftr*_expected.safetensors", CHECKS) <= 1.0


def test_linear_attention_equals_the_quadratic_form() -> None:
    layer = filled(LinearAttentionLayer(6, 2))
    x, source = torch.randn(1, 5, 6), torch.randn(1, 7, 6)
    q, k, v = layer.q_proj(x), layer.k_proj(source), layer.v_proj(source)
    heads = []
    for h in (slice(0, 3), slice(3, 6)):
        weight = (F.elu(q[0, :, h]) + 1) @ (F.elu(k[0, :, h]) + 1).T  # (5, 7)
        heads.append(weight / weight.sum(1, keepdim=True) @ v[0, :, h])
    message = layer.norm1(layer.merge(torch.cat(heads, 1)))
    expected = x + layer.norm2(layer.mlp(torch.cat([x, message[None]], 2)))
    assert torch.allclose(layer(x, source), expected, atol=1e-4)


def test_positions_start_at_one_and_alternate() -> None:
    table = positions(torch.Size([1, 8, 2, 3]))[0]
    second = float(np.exp(-2 * np.log(10000) / 4))
    # row 0 (y = 1), column 2 (x = 3)
    expected = [
        np.sin(3),
        np.cos(3),
        np.sin(1),
        np.cos(1),
        np.sin(3 * second),
        np.cos(3 * second),
        np.sin(second),
        np.cos(second),
    ]
    assert table[:, 0, 2].tolist() == pytest.approx(expected, abs=1e-6)


def test_windows_are_centred_on_the_cells() -> None:
    fine = torch.arange(64.0).view(1, 1, 8, 8)
    cut = windows(fine, 5, 4)[0, :, :, 0]  # four cells, at (0, 0), (0, 4), (4, 0), (4, 4)
    assert cut.shape == (4, 25)
    assert cut[:, 12].tolist() == [0.0, 4.0, 32.0, 36.0]
    assert cut[3, 0] == fine[0, 0, 2, 2] and cut[0, 0] == 0  # two rows and columns before; zeros outside


def test_offset_of_a_single_strong_answer() -> None:
    window = torch.zeros(1, 9, 4)
    window[0, 5] = 100.0  # row 1, column 2: to the right of the middle
    offset = expected_offset(torch.ones(1, 4), window, 3)[0]
    assert offset.tolist() == pytest.approx([1.0, 0.0, 2e-5], abs=1e-5)


def test_mutual_matches_respect_threshold_and_border() -> None:
    model = LoFTR(LoFTRConfig(4, (4, 6, 8), ("self",), ("self",), 2, 2, threshold=0.2, border=1))
    confidence = torch.zeros(9, 9)
    confidence[4, 4] = 0.3  # the only cell of a 3 x 3 map that is not at the border
    confidence[0, 0] = 0.9
    i, j = model.mutual(confidence, (3, 3), (3, 3))
    assert i.tolist() == [4] and j.tolist() == [4]
    confidence[4, 4] = 0.1
    assert len(model.mutual(confidence, (3, 3), (3, 3))[0]) == 0


def test_no_match_is_an_empty_answer() -> None:
    model = filled(LoFTR(LoFTRConfig(4, (4, 6, 8), ("self", "cross"), ("self",), 2, 2, threshold=2.0)))
    found = model(torch.rand(1, 32, 48), torch.rand(1, 40, 32))
    assert found.points0.shape == found.points1.shape == (0, 2) and found.confidence.shape == (0,)
    assert found.coarse_confidence.shape == (24, 20)


def test_near_views_keep_foreground_matches_only() -> None:
    class Given(LoFTR):
        def forward(self, image0: torch.Tensor, image1: torch.Tensor) -> Matches:
            points = torch.tensor([[120.0, 240.0], [400.0, 240.0]])  # of 480: left half, right half
            ones = torch.ones(2)
            return Matches(points, points, ones, torch.ones(1, 1), torch.zeros(2, 3))

    pictures = np.full((4, 64, 64, 3), 255, np.uint8)
    pictures[:, :, :32] = 100
    found = match_near_views(Given(TINY), pictures)
    assert sorted(found) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert found[1, 2].tolist() == [[16.0, 32.0, 16.0, 32.0, 1.0]]
