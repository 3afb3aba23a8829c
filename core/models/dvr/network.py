# SPDX-License-Identifier: GPL-3.0-or-later
"""Differentiable Volumetric Rendering (Niemeyer et al., CVPR 2020): one network for occupancy and colour.

Layout of the public checkpoints of differentiable_volumetric_rendering.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..parts.conditioned_mlp import ConditionedMlp
from ..parts.key_shapes import Shapes, count, has
from ..parts.resnet18 import Resnet18


@dataclass(frozen=True)
class DvrConfig:
    """Widths of the network."""

    hidden: int = 512
    c_dim: int = 256
    """Width of the picture's code; 0: one object, optimised from its views."""
    out_dim: int = 4
    """Occupancy logit and colour logits; 1: no colour."""
    n_blocks: int = 5
    threshold: float = 0.5
    """Probability on the surface."""


PUBLISHED = {
    "dvr_mvr": DvrConfig(c_dim=0),
    "dvr_svr_combined": DvrConfig(),
    "dvr_svr_depth": DvrConfig(out_dim=1),
    "dvr_svr_rgb": DvrConfig(hidden=128),
}


class DvrNetwork(nn.Module):
    """Picture encoder (single view) and the texture field f(p, c) -> occupancy, colour."""

    def __init__(self, config: DvrConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = ConditionedMlp(3, config.hidden, config.out_dim, config.c_dim, 0, config.n_blocks)
        if config.c_dim:
            self.encoder = Resnet18(config.c_dim)

    def encode(self, image: Tensor | None) -> Tensor | None:
        """image (B, 3, 224, 224) RGB 0..1 -> (B, c_dim); None for a network of one object."""
        if image is None or not self.config.c_dim:
            return None
        c: Tensor = self.encoder(image)
        return c

    def outputs(self, p: Tensor, c: Tensor | None) -> Tensor:
        """p (B, T, 3), c (B, c_dim) -> raw outputs (B, T, out_dim)."""
        raw: Tensor = self.decoder(p, c)
        return raw

    def logits(self, p: Tensor, c: Tensor | None) -> Tensor:
        """Occupancy logits (B, T)."""
        return self.outputs(p, c)[..., 0]

    def colours(self, p: Tensor, c: Tensor | None) -> Tensor:
        """Colours (B, T, 3) in 0..1."""
        return torch.sigmoid(self.outputs(p, c)[..., 1:])


def config_from(shapes: Shapes) -> DvrConfig:
    """Settings from the key shapes of a checkpoint."""
    out_dim, hidden = shapes["decoder.fc_out.weight"]
    c_dim = shapes.get("decoder.fc_c.0.weight", (0, 0))[1]
    if c_dim and not has(shapes, "encoder."):
        raise KeyError("encoder.features.conv1.weight")
    return DvrConfig(hidden, c_dim, out_dim, count(shapes, "decoder.blocks.{}.fc_0.weight"))
