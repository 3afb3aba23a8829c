# SPDX-License-Identifier: GPL-3.0-or-later
"""Encoder and decoder of the Stable Diffusion autoencoder (KL-f8). Names of our parameters = original checkpoint.

Source: Rombach et al. 2022, appendix G; sizes from the public configuration. Latent Radiance Fields (Zhou et al. 2025)
publishes the same network with other weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.attention import attend
from ..parts.unet import Upsample

SCALE = 0.18215
"""Factor between the posterior mean and the latents that diffusion works on. Latent Radiance Fields does not use it."""


@dataclass(frozen=True)
class VaeConfig:
    """Sizes of the autoencoder."""

    channels: int = 128
    """At full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    """Channels per level over `channels`; the resolution halves between levels."""
    blocks: int = 2
    """Residual blocks per level of the encoder; the decoder has one more."""
    latent: int = 4

    @property
    def factor(self) -> int:
        """Picture side over latent side."""
        return 2 ** (len(self.multipliers) - 1)


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm x))))); a 1x1 convolution on the shortcut where the width changes."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, channels, eps=1e-6), nn.Conv2d(channels, out, 3, 1, 1)
        self.norm2, self.conv2 = nn.GroupNorm(32, out, eps=1e-6), nn.Conv2d(out, out, 3, 1, 1)
        self.nin_shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        return self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class PixelAttention(nn.Module):
    """Single-head attention among all pixels, added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).mT for layer in (self.q, self.k, self.v))  # each (B, H*W, C)
        return x + self.proj_out(attend(q, k, v, heads=1).mT.unflatten(2, x.shape[2:]))


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels)
        self.attn_1 = PixelAttention(channels)
        self.block_2 = ResBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.block_2(self.attn_1(self.block_1(x)))


class HalfConv(nn.Module):
    """3x3 convolution with stride 2, padded by one on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """Blocks at one resolution, then possibly a change of resolution."""

    def __init__(self, widths: list[int], downsample: bool = False, upsample: bool = False) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResBlock(a, b) for a, b in pairwise(widths))
        self.downsample = HalfConv(widths[-1]) if downsample else nn.Identity()
        self.upsample = Upsample(widths[-1]) if upsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, widths[0], H, W) -> (B, widths[-1], H', W')."""
        for block in self.block:
            x = block(x)
        return self.upsample(self.downsample(x))


class Encoder(nn.Module):
    """Picture -> moments."""

    def __init__(self, c: VaeConfig) -> None:
        super().__init__()
        widths = [c.channels * m for m in (1, *c.multipliers)]
        last = len(c.multipliers) - 1
        self.conv_in = nn.Conv2d(3, c.channels, 3, 1, 1)
        self.down = nn.ModuleList(
            Level([widths[i]] + [widths[i + 1]] * c.blocks, downsample=i < last) for i in range(last + 1)
        )
        self.mid = Middle(widths[-1])
        self.norm_out = nn.GroupNorm(32, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * c.latent, 3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in -1..1 -> (B, 2 latent, H/8, W/8)."""
        x = self.conv_in(image)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latent -> picture. `up` is indexed by resolution: the last runs first."""

    def __init__(self, c: VaeConfig) -> None:
        super().__init__()
        widths = [c.channels * m for m in (*c.multipliers, c.multipliers[-1])]
        self.conv_in = nn.Conv2d(c.latent, widths[-1], 3, 1, 1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList(
            Level([widths[i + 1]] + [widths[i]] * (c.blocks + 1), upsample=i > 0)
            for i in range(len(c.multipliers))
        )
        self.norm_out = nn.GroupNorm(32, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, 1, 1)

    def forward(self, latent: Tensor) -> Tensor:
        """(B, latent, h, w) -> (B, 3, 8 h, 8 w), about -1..1."""
        x = self.mid(self.conv_in(latent))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class SDVae(nn.Module):
    """The autoencoder; latents are posterior means, never scaled here (`SCALE` is the caller's business)."""

    def __init__(self, config: VaeConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or VaeConfig()
        self.encoder, self.decoder = Encoder(c), Decoder(c)
        self.quant_conv = nn.Conv2d(2 * c.latent, 2 * c.latent, 1)
        self.post_quant_conv = nn.Conv2d(c.latent, c.latent, 1)

    def moments(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in -1..1 -> (B, 2 latent, H/8, W/8): mean, then log-variance (clamp it to -30..20 before use)."""
        return self.quant_conv(self.encoder(image))

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in -1..1 -> posterior mean (B, latent, H/8, W/8)."""
        return self.moments(image).chunk(2, 1)[0]

    def decode(self, latent: Tensor) -> Tensor:
        """Unscaled latent (B, latent, h, w) -> (B, 3, 8 h, 8 w), about -1..1."""
        return self.decoder(self.post_quant_conv(latent))
