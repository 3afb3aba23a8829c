# SPDX-License-Identifier: GPL-3.0-or-later
"""Weight files of our own training: safetensors whose metadata hold the network's configuration as JSON under `config`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from safetensors import safe_open
from torch import Tensor, nn

from ...errors import InputError

Network = TypeVar("Network", bound=nn.Module)


def read_own(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The configuration's JSON, and the tensors as float32.

    Raises:
        OSError, SafetensorError, KeyError: the file is gone, damaged, or not one of ours.
    """
    with safe_open(path, "pt") as file:
        return file.metadata()["config"], {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118


def with_weights(model: Network, tensors: Mapping[str, Tensor], title: str) -> Network:
    """The model with these weights, float32, in eval mode, without gradients.

    Args:
        title: what the model is called in the message.

    Raises:
        InputError: WEIGHTS_MISMATCH when names or shapes differ.
    """
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise InputError(
            "WEIGHTS_MISMATCH",
            f"These are not the weights of {title}: {error}.",
            "Install the extension again.",
        ) from error
    return model.eval().requires_grad_(False)
