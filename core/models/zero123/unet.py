# SPDX-License-Identifier: GPL-3.0-or-later
"""The denoising U-Net of Zero123: Stable Diffusion's with 8 input channels. Names = original checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..parts.transformer import GatedFeedForward
from ..parts.unet import Conv3, Downsample, SpatialTransformer, TimeResBlock, Upsample, timestep_embedding


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the U-Net; defaults are the public ones."""

    inputs: int = 8
    """Noisy latent and condition latent, four channels each."""
    outputs: int = 4
    channels: int = 320
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    """Residual blocks per level on the way down; one more on the way up."""
    attention: tuple[int, ...] = (1, 2, 4)
    """Down-sampling factors of the levels that have transformers."""
    heads: int = 8
    context: int = 768
    """Width of the context tokens."""
    depth: int = 1
    """Transformer blocks in a spatial transformer."""


class Step(nn.ModuleList):
    """Layers run in turn, each given what it takes: time, context, or the picture alone."""

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """x (B, C, H, W), time (B, T), context (B, M, context) -> (B, C', H', W')."""
        for layer in self:
            if isinstance(layer, TimeResBlock):
                x = layer(x, time)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            else:
                x = layer(x)
        return x


class UNet(nn.Module):
    """Noisy latent, time, context -> predicted noise."""

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or UNetConfig()
        time = 4 * c.channels
        self.time_embed = nn.Sequential(nn.Linear(c.channels, time), nn.SiLU(), nn.Linear(time, time))

        def transformer(width: int, factor: int) -> list[nn.Module]:
            return [SpatialTransformer(width, c.heads, c.context, c.depth)] if factor in c.attention else []

        width, factor, skips = c.channels, 1, [c.channels]
        steps: list[nn.Module] = [Step([nn.Conv2d(c.inputs, width, 3, 1, 1)])]
        for level, multiplier in enumerate(c.multipliers):
            for _ in range(c.blocks):
                out = c.channels * multiplier
                steps.append(Step([TimeResBlock(width, out, time), *transformer(out, factor)]))
                width = out
                skips.append(width)
            if level < len(c.multipliers) - 1:
                steps.append(Step([Downsample(width)]))
                skips.append(width)
                factor *= 2
        self.input_blocks = nn.ModuleList(steps)
        self.middle_block = Step(
            [
                TimeResBlock(width, width, time),
                SpatialTransformer(width, c.heads, c.context, c.depth),
                TimeResBlock(width, width, time),
            ]
        )
        steps = []
        for level, multiplier in reversed(list(enumerate(c.multipliers))):
            for block in range(c.blocks + 1):
                out = c.channels * multiplier
                layers = [TimeResBlock(width + skips.pop(), out, time), *transformer(out, factor)]
                width = out
                if level and block == c.blocks:
                    layers.append(Upsample(width))
                    factor //= 2
                steps.append(Step(layers))
        self.output_blocks = nn.ModuleList(steps)
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, c.outputs, 3, 1, 1))

    def mixed(self, dtype: torch.dtype) -> UNet:
        """Itself, with the weights of its 3x3 convolutions (first and last excepted) and feed-forward layers in `dtype`.

        Four fifths of the weights; sums, norms and attention stay as they are. Our choice: with
        everything in bfloat16 the result of a guided step is twice as far off (docs/models/zero123.md).
        """
        for module in self.modules():
            if isinstance(module, Conv3 | GatedFeedForward):
                module.to(dtype)
        return self

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """x (B, inputs, h, w), t (B,) time steps, context (B, M, context) -> noise (B, outputs, h, w)."""
        time = self.time_embed(timestep_embedding(t, self.config.channels).to(x.dtype))
        skips = []
        for step in self.input_blocks:
            x = step(x, time, context)
            skips.append(x)
        x = self.middle_block(x, time, context)
        for step in self.output_blocks:
            x = step(torch.cat([x, skips.pop()], 1), time, context)
        return self.out(x)
