# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks of latent diffusion's U-Net (Rombach et al. 2022; Ho et al. 2020). Names as in the original checkpoints."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rows import linear
from .transformer import CrossBlock


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """t (B,) -> (B, width): [cos, sin] of t f_k, f_k = exp(-k ln(10000) / half), cosine first (unlike Ho et al.)."""
    half = width // 2
    frequencies = torch.exp(
        -math.log(10000) / half * torch.arange(half, dtype=torch.float32, device=t.device)
    )
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


class Conv3(nn.Conv2d):
    """A 3x3 convolution that keeps the side, or halves it; works in the dtype of its weights, answers in that of its input."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__(channels, out, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out, H / stride, W / stride)."""
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class TimeResBlock(nn.Module):
    """Two norm-SiLU-conv steps; the time embedding is added in between."""

    def __init__(self, channels: int, out: int, time_width: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), Conv3(channels, out))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, out))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, out), nn.SiLU(), nn.Identity(), Conv3(out, out))
        self.skip_connection = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, channels, H, W), time (B, time_width) -> (B, out, H, W)."""
        h = self.in_layers(x) + self.emb_layers(time)[..., None, None]
        return self.skip_connection(x) + self.out_layers(h)


class SpatialTransformer(nn.Module):
    """Pixels as tokens: norm, 1x1 conv, transformer blocks that look at the context, 1x1 conv, added."""

    def __init__(self, channels: int, heads: int, context_width: int, depth: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            CrossBlock(channels, heads, channels // heads, context_width) for _ in range(depth)
        )
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, C, H, W), context (B, M, context_width) -> (B, C, H, W)."""
        tokens = self.norm(x).flatten(2).mT.contiguous()  # (B, H*W, C)
        tokens = linear(tokens, self.proj_in.weight.flatten(1), self.proj_in.bias)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        tokens = linear(tokens, self.proj_out.weight.flatten(1), self.proj_out.bias)
        return x + tokens.mT.unflatten(2, x.shape[2:])


class Downsample(nn.Module):
    """3x3 convolution with stride 2, padded by one on every side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = Conv3(channels, channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2)."""
        return self.op(x)


class Upsample(nn.Module):
    """Every pixel twice in both directions, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
