# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear layers over many rows on a processor: where the time of every field goes that is a small network asked at points.

Torch hands a matrix product to MKL, which on processors that are not Intel's keeps to half of their vector width; a
convolution of size one over the same numbers goes to oneDNN, which uses all of it (twice as fast on an AMD EPYC of
family 26, equal on Intel's). The sums are the same, in another order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK = 1 << 12
"""Rows at a time on a processor: 256 numbers each stay in its cache."""
CHUNK_ELSEWHERE = 1 << 16
"""On a graphics card, where calls cost more than memory."""
_BATCH = 16
"""Torch takes oneDNN for convolutions of size one only from this batch up, or with several threads."""


def chunk_of(device: torch.device) -> int:
    """Rows to ask a small network at a time."""
    return CHUNK if device.type == "cpu" else CHUNK_ELSEWHERE


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., in), weight (out, in), bias (out,) -> (..., out); as `torch.nn.functional.linear`.

    Works in the dtype of the weight and answers in that of x (outside autocast).
    """
    if weight.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
        return F.linear(x.to(weight.dtype), weight, bias).to(x.dtype)
    rows = x.numel() // max(x.shape[-1], 1)
    if rows < 8 * _BATCH or len(weight) < 16 or not _through_convolution(x, weight):
        return F.linear(x, weight, bias)
    batch = _BATCH if rows % _BATCH == 0 else 1
    pixels = x.reshape(batch, -1, 1, x.shape[-1]).permute(
        0, 3, 1, 2
    )  # (batch, in, rows / batch, 1), channels last
    y = F.conv2d(pixels, weight[:, :, None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


class RowLinear(nn.Linear):
    """A linear layer that is asked for many rows; the same parameters and numbers as torch's."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        return linear(x, self.weight, self.bias)


def linear_of_parts(layer: nn.Module, parts: Sequence[Tensor]) -> Tensor:
    """A linear layer on concatenated inputs, without repeating those that hold for several rows.

    Args:
        layer: an `nn.Linear`, a + b + ... -> out, with bias.
        parts: (N, a), (K, b) ...; a part with K rows instead of N holds for N / K rows in a row. K is 1 or the same for all.

    Returns:
        (N, out).
    """
    assert isinstance(layer, nn.Linear)
    rows = len(parts[0])
    blocks = layer.weight.split([part.shape[1] for part in parts], 1)
    own = [(part, block) for part, block in zip(parts, blocks, strict=True) if len(part) == rows]
    shared = [F.linear(part, block) for part, block in zip(parts, blocks, strict=True) if len(part) != rows]
    x, w = (torch.cat(pair, 1) if len(own) > 1 else pair[0] for pair in zip(*own, strict=True))
    offset = sum(shared, layer.bias[None])  # (1 or K, out)
    if len(offset) == 1:
        return linear(x, w, offset[0])
    return linear(x, w).unflatten(0, (len(offset), -1)).add_(offset[:, None]).flatten(0, 1)


def _through_convolution(x: Tensor, weight: Tensor) -> bool:
    """In float32, without gradients and reduced precision, where both libraries are there (x86)."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
    )
