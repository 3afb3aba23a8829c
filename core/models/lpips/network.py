# SPDX-License-Identifier: GPL-3.0-or-later
"""LPIPS (Zhang et al. 2018): VGG16's features after five of its layers, compared with learnt weights per channel.

The trunk's weights are torchvision's (`features.N.weight`); the five linear layers are those of the lpips package
(`lin0.model.1.weight`, or `lins.0...`). They may lie in one file or in two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError

TRUNK = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Outputs of the convolutions of each slice; all but the first begin with a pooling."""
FIRST = (0, 5, 10, 17, 24)
"""Number of each slice's first convolution in torchvision's sequence."""
MEAN, SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of pictures -1..1 (lpips 0.1.4)."""


class Lpips(nn.Module):
    """Pictures (B, 3, H, W), -1..1 -> distance."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.slices = nn.ModuleList()
        self.layers: list[list[nn.Conv2d]] = []
        width = 3
        for widths in TRUNK:
            made = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise((width, *widths))]
            self.slices.append(nn.ModuleList(made))
            self.layers.append(made)
            width = widths[-1]
        self.weights = nn.ParameterList(torch.ones(1, widths[-1], 1, 1) for widths in TRUNK)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("spread", torch.tensor(SPREAD)[:, None, None])

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Lpips:
        """From the public names.

        Raises:
            InputError: WEIGHTS_MISMATCH.
        """
        network = cls()
        try:
            with torch.no_grad():
                for number, layers in enumerate(network.layers):
                    for place, layer in enumerate(layers):
                        key = f"features.{FIRST[number] + 2 * place}"
                        for name in ("weight", "bias"):
                            getattr(layer, name).copy_(tensors[f"{key}.{name}"])
                    found = tensors.get(
                        f"lin{number}.model.1.weight", tensors.get(f"lins.{number}.model.1.weight")
                    )
                    if found is None:
                        raise KeyError(f"lin{number}.model.1.weight")
                    network.weights[number].copy_(found)
        except (KeyError, RuntimeError) as error:
            raise InputError(
                "WEIGHTS_MISMATCH",
                f"These are not the weights of LPIPS with VGG16: {error}.",
                "Name torchvision's VGG16 and the lpips package's linear layers (vgg.pth).",
            ) from error
        return network.eval().requires_grad_(False)

    @classmethod
    def from_files(cls, paths: Sequence[Path]) -> Lpips:
        """From one file or several.

        Raises:
            InputError, MissingError: as `weights.safe_loader.read_checkpoint`; WEIGHTS_MISMATCH.
        """
        from ...weights.safe_loader import read_checkpoint

        tensors: dict[str, Tensor] = {}
        for path in paths:
            for group in read_checkpoint(path).groups.values():
                tensors |= group
        return cls.from_tensors(tensors)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two pictures -> scalar: mean over pixels and items, sum over the five layers."""
        total = a.new_zeros(())
        x, y = ((p - self.mean) / self.spread for p in (a, b))
        for number, layers in enumerate(self.layers):
            if number:
                x, y = F.max_pool2d(x, 2), F.max_pool2d(y, 2)
            for layer in layers:
                x, y = F.relu(layer(x)), F.relu(layer(y))
            difference = (_unit(x) - _unit(y)).square()
            total = total + (difference * self.weights[number]).sum(1).mean()
        return total


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
