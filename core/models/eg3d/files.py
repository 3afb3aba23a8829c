# SPDX-License-Identifier: GPL-3.0-or-later
"""Generators from and to weight files: published ones, and safetensors that carry their settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..parts.key_shapes import shapes_of
from .configuration import Eg3dConfig, config_from
from .generator import Eg3d

ENTRY = "eg3d"
"""Name of the settings in a safetensors file's metadata."""


def generator_from(tensors: Mapping[str, Tensor], settings: Mapping[str, Any], path: Path) -> Eg3d:
    """The generator of a weight file.

    Args:
        tensors: public key -> weight, any float dtype.
        settings: dictionaries beside the weights: of NVIDIA's objects (`G_ema settings`), or community's `rendering_kwargs`.
        path: of the file; its metadata where it is ours, its name where nothing else says what it is.

    Raises:
        InputError: WEIGHTS_MISMATCH. KeyError, IndexError, ValueError, TypeError: no such generator.
    """
    own = stored_config(path)
    if own is None:
        beside = next(
            (
                value
                for name, value in settings.items()
                if name.endswith(" settings") and "rendering_kwargs" in value
            ),
            settings,
        )
        own = config_from(shapes_of(tensors), beside, path.stem)
    return Eg3d.from_public(tensors, own)


def stored_config(path: Path) -> Eg3dConfig | None:
    """The settings that `save_generator` wrote; None in any other file."""
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(ENTRY)
    return None if text is None else Eg3dConfig.from_json(json.loads(text))


def save_generator(network: Eg3d, path: Path, dtype: torch.dtype | None = None) -> None:
    """Weights under their public names and the settings in one safetensors file, which loads without a pickle.

    Args:
        network: published or our own.
        path: of the file, `.safetensors`.
        dtype: of the weights in the file; None: as they are. Half precision is exact to 0.05 %.
    """
    state = {name: tensor.to(dtype or tensor.dtype).cpu() for name, tensor in network.state_dict().items()}
    about = {ENTRY: json.dumps(network.config.as_json())}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, about)
