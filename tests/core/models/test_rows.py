# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear layers over many rows against torch's own, through whichever library they go."""

from __future__ import annotations

import pytest
import torch
from maquette.core.models.parts.rows import RowLinear, linear, linear_of_parts
from torch import nn
from torch.nn import functional as F


@pytest.mark.parametrize("shape", [(4096, 48), (3, 1000, 48), (5, 48), (0, 48), (2, 7, 31, 48)])
def test_a_layer_is_the_same_through_either_library(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, layer = torch.randn(shape), RowLinear(48, 40).requires_grad_(False)
    expected = F.linear(x, layer.weight, layer.bias)
    assert layer(x).shape == expected.shape
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(linear(x, layer.weight), expected - layer.bias, atol=1e-5, rtol=0)


def test_gradients_pass() -> None:
    torch.manual_seed(0)
    x, layer = torch.randn(1024, 32, requires_grad=True), RowLinear(32, 32)
    layer(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand_as(x).detach())


@pytest.mark.parametrize("rows", [(1, 1), (1, 600), (600, 600), (30, 1)])
def test_parts_that_hold_for_several_rows_count_for_each(rows: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(20 + 5 + 7, 24).requires_grad_(False)
    parts = [torch.randn(600, 20), torch.randn(rows[0], 5), torch.randn(rows[1], 7)]
    repeated = torch.cat([part.repeat_interleave(600 // len(part), 0) for part in parts], 1)
    torch.testing.assert_close(linear_of_parts(layer, parts), layer(repeated), atol=1e-5, rtol=0)


def test_no_rows() -> None:
    assert linear_of_parts(nn.Linear(8, 4), [torch.zeros(0, 5), torch.zeros(1, 3)]).shape == (0, 4)
