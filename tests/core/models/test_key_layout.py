# SPDX-License-Identifier: GPL-3.0-or-later
"""Correspondence of names between public files and our modules."""

import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.models.parts.key_layout import KeyLayout, load_public
from torch import nn

from tests.parity_checks.lrm_keys import CHECKS
from tests.parity_checks.lrm_run import needs_fixtures, worst


@needs_fixtures
def test_every_key_of_the_full_size_models() -> None:
    assert worst("full_size_keys.json", CHECKS) == 0.0


def test_packed_sliced_transposed_and_flat_names() -> None:
    model = nn.ModuleDict(
        {
            "qkv": nn.Linear(2, 6),
            "to_k": nn.Linear(2, 2, False),
            "proj": nn.Linear(2, 3, False),
            "one": nn.Conv2d(2, 2, 1, bias=False),
        }
    )
    layout = KeyLayout(
        [(r"^qkv\.", "{q,k,v}."), (r"^to_k\.weight", "packed[1/3]"), (r"^proj\.weight", "proj")],
        transposed=r"^proj$",
        flat=r"^one\.",
    )
    with torch.device("meta"):
        assert layout.public_shapes(model) == {
            "q.weight": [2, 2], "k.weight": [2, 2], "v.weight": [2, 2], "q.bias": [2], "k.bias": [2], "v.bias": [2],
            "packed": [6, 2], "proj": [2, 3], "one.weight": [2, 2],
        }  # fmt: skip
    file = {name: torch.rand(shape) for name, shape in layout.public_shapes(model).items()}
    file["one.weight"] = file["one.weight"].double()  # any floating type becomes the one that is asked for
    load_public(model, file, layout)
    assert torch.equal(model["qkv"].weight[2:4], file["k.weight"])
    assert torch.equal(model["to_k"].weight, file["packed"][2:4])
    assert torch.equal(model["proj"].weight, file["proj"].T)
    assert model["one"].weight.shape == (2, 2, 1, 1) and model["one"].weight.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_what_may_be_absent_and_what_is_ignored() -> None:
    model = nn.BatchNorm1d(2)
    file = {
        name: torch.full_like(t, 2) for name, t in model.state_dict().items() if name != "num_batches_tracked"
    }
    with pytest.raises(InputError):
        load_public(model, file, KeyLayout())
    load_public(
        model,
        file | {"optimizer.step": torch.zeros(1)},
        KeyLayout(optional="num_batches", ignored="^optimizer"),
    )
    assert model.running_mean.tolist() == [2, 2] and int(model.num_batches_tracked) == 0
