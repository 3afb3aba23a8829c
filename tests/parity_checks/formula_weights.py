# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights made by a formula (PW in the fixtures' README), so that full-size cases need no weight files."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .fixture import Fixture


def u_stream(number: int, count: int) -> NDArray[np.float64]:
    """(count,) float64 in 0..1: a hash of the element's index and the stream's number, modulo 2^32."""
    with np.errstate(over="ignore"):
        h = np.arange(count, dtype=np.uint32) + np.uint32((number + 1) * 0x9E3779B9 % 2**32)
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        h = h ^ (h >> np.uint32(16))
    return h.astype(np.float64) / 2.0**32


def formula_value(key: str, shape: tuple[int, ...], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value of one tensor from its u-stream; the rule goes by the end of the key and the number of axes."""
    module, _, last = key.rpartition(".")
    if last == "running_var":
        value = 0.5 + u
    elif last == "running_mean":
        value = 0.2 * (2 * u - 1)
    elif len(shape) <= 1:
        value = 0.75 + 0.5 * u if last == "weight" else 0.2 * (2 * u - 1) + module.endswith("gamma")
    else:
        value = (
            (2 * u - 1)
            * np.sqrt(3 / np.prod(shape[1:]))
            * (0.1 if module.endswith(("gamma", "beta")) else 1.0)
        )
    return value.reshape(shape)


def fill_by_formula(network: nn.Module, fixture: Fixture) -> nn.Module:
    """Set every floating tensor of `network` (blur kernels excepted) by the formula; returns it in eval mode."""
    first = fixture.sizes("pw_first_key_number")
    first_number = int(first.get(fixture.path.stem, first.get("default", 0)))
    state: dict[str, Tensor] = network.state_dict()
    for number, key in enumerate(sorted(state), first_number):
        tensor = state[key]
        if tensor.is_floating_point() and not key.endswith(".f"):
            value = formula_value(key, tuple(tensor.shape), u_stream(number, tensor.numel()))
            tensor.copy_(torch.from_numpy(value.astype(np.float32)))
    return network.eval()
