# SPDX-License-Identifier: GPL-3.0-or-later
"""The pose encoder: the encoder half of a diffusion U-Net, from a noisy picture and its step to camera numbers (spec A.4)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .noise import STEPS


class PoseEncoder(nn.Module):
    """Noisy pictures (B, 3, S, S) in -1..1 and steps (B,) -> (B, outputs) camera numbers, all zero before training.

    Args:
        canvas: S, pixels; a power of two from 16.
        width: channels of the first level; the levels have 1, 2, 3 and 4 times as many.
        outputs: numbers per picture.
        blocks: residual blocks per level.
    """

    def __init__(self, canvas: int, width: int, outputs: int, blocks: int = 2) -> None:
        super().__init__()
        self.width = width
        inner = 4 * width
        self.time = nn.Sequential(nn.Linear(width, inner), nn.SiLU(), nn.Linear(inner, inner))
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        layers: list[nn.Module] = []
        channels = width
        for level, factor in enumerate((1, 2, 3, 4)):
            if level > 0:
                layers.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
            for _ in range(blocks):
                layers.append(Block(channels, factor * width, inner))
                channels = factor * width
                if level >= 2:
                    layers.append(Attention(channels))
        layers += [Block(channels, channels, inner), Attention(channels), Block(channels, channels, inner)]
        self.layers = nn.ModuleList(layers)
        self.last = nn.GroupNorm(8, channels)
        # The 4 x 4 layout is kept: a global mean loses where the object is.
        self.head = nn.Sequential(
            nn.Linear(16 * channels, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU(), nn.Linear(512, outputs)
        )
        nn.init.zeros_(self.head[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[-1].bias)  # type: ignore[arg-type]

    def forward(self, noisy: Tensor, t: Tensor) -> Tensor:
        """(B, 3, S, S), (B,) -> (B, outputs)."""
        time = self.time(self._embed(t))
        x = self.stem(noisy)
        for layer in self.layers:
            x = layer(x, time) if isinstance(layer, Block) else layer(x)
        x = F.adaptive_avg_pool2d(F.silu(self.last(x)), 4)
        out: Tensor = self.head(x.flatten(1))
        return out

    def _embed(self, t: Tensor) -> Tensor:
        """Sinusoids of the step (Vaswani et al. 2017, as DDPM uses them), (B, width)."""
        half = self.width // 2
        rates = torch.exp(-math.log(10 * STEPS) * torch.arange(half, device=t.device) / half)
        angles = t[:, None].float() * rates
        return torch.cat([angles.sin(), angles.cos()], 1)


class Block(nn.Module):
    """Residual block whose second norm is scaled and shifted by the step (FiLM)."""

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.film = nn.Linear(time, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.film(F.silu(time))[:, :, None, None].chunk(2, 1)
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden) * (1 + scale) + shift))
        out: Tensor = self.skip(x) + hidden
        return out


class Attention(nn.Module):
    """Self-attention over the pixels, four heads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.inputs, self.outputs = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        parts = self.inputs(self.norm(x)).view(b, 3, 4, c // 4, h * w).transpose(-1, -2)
        mixed = F.scaled_dot_product_attention(parts[:, 0], parts[:, 1], parts[:, 2])
        out: Tensor = x + self.outputs(mixed.transpose(-1, -2).reshape(b, c, h, w))
        return out
