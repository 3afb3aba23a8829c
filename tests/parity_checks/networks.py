# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of a fixture into a network, and the key tables of full-size models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from maquette.core.models.parts.key_layout import KeyLayout, load_public
from torch import Tensor, nn

from .fixture import Fixture

Network = TypeVar("Network", bound=nn.Module)


def tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Tensor]:
    """numpy -> torch, copied."""
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


def filled(network: Network, weights: Mapping[str, np.ndarray[Any, Any]]) -> Network:
    """`network` with the weights of a fixture: every key used, none missing, shapes equal; in eval mode."""
    state, given = network.state_dict(), tensors(weights)
    assert {k: tuple(v.shape) for k, v in state.items()} == {k: tuple(v.shape) for k, v in given.items()}
    load_public(network, given, KeyLayout())
    return network


def key_tables(
    build: Callable[[str, dict[str, tuple[int, ...]]], dict[str, nn.Module]],
) -> Callable[..., Any]:
    """A check of a keys_*.json file.

    Args:
        build: (configuration's name, its key shapes) -> prefix -> network, made on the meta device.
    """

    def check(fixture: Fixture) -> Iterator[tuple[str, Any]]:
        for name, entry in fixture.neighbour(fixture.path.name).items():
            with torch.device("meta"):
                networks = build(name, {key: tuple(shape) for key, shape, _ in entry["keys"]})
            state = {prefix + k: v for prefix, net in networks.items() for k, v in net.state_dict().items()}
            got = sorted([k, list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in state.items())
            # order does not matter for loading: give back the table itself when the sets are equal
            yield f"{name}/keys", entry["keys"] if got == sorted(entry["keys"]) else got
            for field in entry:
                if field.startswith("n_params"):
                    part = field.removeprefix("n_params").strip("_")
                    chosen = [n for prefix, n in networks.items() if not part or prefix.strip(".") == part]
                    yield f"{name}/{field}", sum(p.numel() for n in chosen for p in n.parameters())

    return check
