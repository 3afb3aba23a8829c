# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of NeRF (Mildenhall et al., ECCV 2020, figure 7), which GRAF conditions with codes.

Layout of nerf-pytorch, also used by GRAF; `from_tensorflow` reads the weight lists of the authors' release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..parts.key_shapes import Shapes, count
from ..parts.rows import RowLinear, linear_of_parts

SKIP = 4
"""The input is concatenated again behind this layer."""


@dataclass(frozen=True)
class NerfConfig:
    """Widths of the network."""

    position_dim: int = 63
    """Encoded position (and shape code in GRAF)."""
    view_dim: int = 27
    """Encoded direction (and appearance code in GRAF); 0: none."""
    width: int = 256
    depth: int = 8
    plain_out: int = 0
    """Without view branch: width of the one output layer (4, or 5 with a fine network); 0: with view branch."""


PUBLISHED = {"nerf": NerfConfig()}


class NerfMlp(nn.Module):
    """Encoded position and direction to colour logits and density."""

    def __init__(self, config: NerfConfig) -> None:
        super().__init__()
        self.config = config
        width, position = config.width, config.position_dim
        sizes = [position] + [width + position * (i == SKIP) for i in range(config.depth - 1)]
        self.pts_linears = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.views_linears = nn.ModuleList([nn.Linear(config.view_dim + width, width // 2)])
        if config.plain_out:
            self.output_linear = nn.Linear(width, config.plain_out)
        else:
            self.feature_linear = RowLinear(width, width)
            self.alpha_linear = nn.Linear(width, 1)
            self.rgb_linear = nn.Linear(width // 2, 3)

    def forward(
        self,
        position: Tensor,
        view: Tensor | None,
        shape: Tensor | None = None,
        look: Tensor | None = None,
    ) -> Tensor:
        """Colour logits and raw density, (N, 4) float32.

        Args:
            position: (N, P) encoded.
            view: (N or R, D) encoded directions; a row of R holds for N / R points.
            shape, look: (1 or R, .) codes that GRAF appends to the two inputs.
        """
        h = self.trunk(position, shape)  # (N, W)
        if self.config.plain_out:
            return self.output_linear(h).float()
        feature = self.feature_linear(h)
        parts = [feature, *(part for part in (view, look) if part is not None)]
        h_view = linear_of_parts(self.views_linears[0], parts).relu_()
        return torch.cat([self.rgb_linear(h_view), self.alpha_linear(h)], -1).float()

    def trunk(self, position: Tensor, shape: Tensor | None = None) -> Tensor:
        """position (N, P), shape (1 or R, .) or None -> (N, W)."""
        inputs = [position] if shape is None else [position, shape]
        h = position
        for i, layer in enumerate(self.pts_linears):
            parts = inputs if i == 0 else [*inputs, h] if i == SKIP + 1 else [h]
            h = linear_of_parts(layer, parts).relu_()
        return h

    def density(self, position: Tensor, shape: Tensor | None = None) -> Tensor:
        """Raw density alone, (N,)."""
        head = self.output_linear if self.config.plain_out else self.alpha_linear
        return head(self.trunk(position, shape))[..., 3 if self.config.plain_out else 0].float()


def config_from(shapes: Shapes) -> NerfConfig:
    """Settings from the key shapes of a checkpoint."""
    width, position = shapes["pts_linears.0.weight"]
    return NerfConfig(
        position,
        shapes["views_linears.0.weight"][1] - width,
        width,
        count(shapes, "pts_linears.{}.weight"),
        shapes.get("output_linear.weight", (0,))[0],
    )


def from_tensorflow(arrays: Sequence[NDArray[np.float32]]) -> dict[str, Tensor]:
    """The authors' weight list [W, b, W, b, ...] -> state dict: eight point layers, feature, view, colour, density."""
    names = [f"pts_linears.{i}" for i in range(8)]
    names += ["feature_linear", "views_linears.0", "rgb_linear", "alpha_linear"]
    pairs = zip(names, arrays[0::2], arrays[1::2], strict=True)
    return {
        key: torch.from_numpy(np.ascontiguousarray(value))
        for name, weight, bias in pairs
        for key, value in ((f"{name}.weight", weight.T), (f"{name}.bias", bias))
    }
