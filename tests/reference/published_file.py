# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that a published system would have written for one of our networks: the inverse of loading, slowly."""

from __future__ import annotations

import torch
from maquette.core.models.parts.key_layout import KeyLayout
from torch import Tensor, nn


def filled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with small random numbers in every floating parameter and buffer."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
    return model.requires_grad_(False).eval()


def published(model: nn.Module, layout: KeyLayout, prefix: str = "") -> dict[str, Tensor]:
    """Public name -> tensor for layouts without `[i/n]` names."""
    shapes = layout.public_shapes(model)
    out = {}
    for name, tensor in model.state_dict().items():
        names = layout.public_names(name)
        for public, part in zip(names, tensor.chunk(len(names)) if tensor.ndim else [tensor], strict=True):
            if (
                part.ndim == 2
                and layout.transposed
                and list(part.T.shape) == shapes[public] != list(part.shape)
            ):
                part = part.T
            out[prefix + public] = part.reshape(shapes[public]).contiguous()
    assert set(out) == {prefix + name for name in shapes}
    return out
