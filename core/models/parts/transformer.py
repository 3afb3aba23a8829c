# SPDX-License-Identifier: GPL-3.0-or-later
"""Transformer blocks and the one vision transformer behind DINO, DINOv2 and CLIP.

Sources: Dosovitskiy et al. 2021 (ViT), Caron et al. 2021 (DINO), Oquab et al. 2023 (DINOv2), Darcet et al. 2023
(registers), Radford et al. 2021 (CLIP), Shazeer 2020 (GEGLU), Hong et al. 2023 (LRM: modulation by the camera).
Parameter names are those of DINOv2; `DINO_V1` and `CLIP` are the key layouts of the other two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention, PackedSelfAttention
from .rows import RowLinear

Resize = Literal["legacy", "size", "antialias"]

# facebook/dino-vitb16 as the transformers library stores it.
DINO_V1 = [
    (r"^cls_token", "embeddings.cls_token"),
    (r"^pos_embed", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
    (r"^norm\.", "layernorm."),
    (r"^pooler\.", "pooler.dense."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layer.\1.attention.attention.{query,key,value}."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
]


@dataclass(frozen=True)
class VisionTransformerConfig:
    """Sizes and variants of a vision transformer."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    """Width inside the MLP."""
    patch: int = 16
    """Pixels."""
    image: int = 224
    """Side in pixels of the pictures that the position table was trained for."""
    eps: float = 1e-6
    """Of the layer norms: DINO 1e-12, DINOv2 1e-6, CLIP 1e-5."""
    registers: int = 0
    """Extra tokens between class and patches (Darcet et al.)."""
    layer_scale: bool = False
    resize: Resize = "legacy"
    """Resampling of the position table: by a scale factor with +0.1, to a size, or anti-aliased by the exact factor."""
    quick_gelu: bool = False
    """x sigmoid(1.702 x) (CLIP) instead of the exact GELU."""
    norm_before: bool = False
    """A layer norm before the first block (CLIP), and no bias in the patch convolution."""
    modulation: int = 0
    """Width of a vector that modulates the norms of every block (an option of OpenLRM); 0: none."""
    pooler: bool = False
    """The file stores a pooling layer, which is never used (TripoSR)."""


class ModulatedNorm(nn.Module):
    """LN(x) (1 + scale) + shift, both from a camera embedding (LRM, equation 6); [shift, scale] = W silu(e) + b."""

    def __init__(self, width: int, modulation: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(modulation, 2 * width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (B, N, width), embedding (B, modulation) -> (B, N, width)."""
        shift, scale = self.mlp(embedding)[:, None].chunk(2, -1)  # each (B, 1, width)
        return self.norm(x) * (1 + scale) + shift


class GatedLinear(nn.Module):
    """a gelu(g) with [a, g] = W x + b (GEGLU)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = RowLinear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, inner)."""
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class GatedFeedForward(nn.Module):
    """Gated linear to 4x the width and back. Names as in the diffusers library (net.1 is its dropout)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GatedLinear(width, 4 * width), nn.Identity(), RowLinear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        return self.net(x)


class CrossBlock(nn.Module):
    """Self-attention, cross-attention, gated feed-forward, each on a layer norm and added (TripoSR, Zero123)."""

    def __init__(self, width: int, heads: int, head_width: int, context_width: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, 1e-5) for _ in range(3))
        self.attn1 = Attention(width, heads, head_width)
        self.attn2 = Attention(width, heads, head_width, context_width)
        self.ff = GatedFeedForward(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, N, width), context (B, M, context_width) -> (B, N, width)."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class LayerScale(nn.Module):
    """Multiply by a learnt vector (Touvron et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return x * self.gamma


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, hidden: int, quick_gelu: bool = False) -> None:
        super().__init__()
        self.fc1 = RowLinear(width, hidden)
        self.fc2 = RowLinear(hidden, width)
        self.quick_gelu = quick_gelu

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        h = self.fc1(x)
        return self.fc2(h * torch.sigmoid(1.702 * h) if self.quick_gelu else F.gelu(h))


class VisionBlock(nn.Module):
    """t += scale1 Attn(norm1 t); t += scale2 MLP(norm2 t)."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        width = config.width

        def norm() -> nn.Module:
            if config.modulation:
                return ModulatedNorm(width, config.modulation, config.eps)
            return nn.LayerNorm(width, config.eps)

        self.norm1, self.norm2 = norm(), norm()
        self.attn = PackedSelfAttention(width, config.heads)
        self.mlp = Mlp(width, config.hidden, config.quick_gelu)
        self.ls1, self.ls2 = (LayerScale(width) if config.layer_scale else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x (B, N, width), embedding (B, modulation) only for modulated norms -> (B, N, width)."""
        extra = () if embedding is None else (embedding,)
        x = x + self.ls1(self.attn(self.norm1(x, *extra)))
        return x + self.ls2(self.mlp(self.norm2(x, *extra)))


class VisionTransformer(nn.Module):
    """Pictures -> class token and patch tokens after the final norm; registers are dropped."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width, grid = config.width, config.image // config.patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        if config.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, width))
        embed = nn.Conv2d(3, width, config.patch, config.patch, bias=not config.norm_before)
        self.patch_embed = nn.ModuleDict({"proj": embed})
        self.norm_pre = nn.LayerNorm(width, config.eps) if config.norm_before else nn.Identity()
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, config.eps)
        if config.pooler:
            self.pooler = nn.Linear(width, width)

    def forward(self, image: Tensor, embedding: Tensor | None = None) -> Tensor:
        """image (B, 3, H, W) as the model wants it normalised -> (B, 1 + H/patch * W/patch, width), class token first."""
        patches = self.patch_embed["proj"](image)  # (B, width, h, w)
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches.flatten(2).mT], 1)
        tokens = tokens + self.positions(*patches.shape[-2:])
        registers = self.config.registers
        if registers:  # after the positions, between class token and patches
            tokens = torch.cat(
                [tokens[:, :1], self.register_tokens.expand(len(image), -1, -1), tokens[:, 1:]], 1
            )
        tokens = self.norm_pre(tokens)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        tokens = self.norm(tokens)
        return torch.cat([tokens[:, :1], tokens[:, 1 + registers :]], 1)

    def positions(self, h: int, w: int) -> Tensor:
        """Position table for h x w patches, (1, 1 + h*w, width)."""
        return resized_positions(self.pos_embed, h, w, self.config.resize)


def resized_positions(table: Tensor, h: int, w: int, mode: Resize) -> Tensor:
    """Position table (1, 1 + side^2, width) for h x w patches: bicubic, half-pixel centres, class row unchanged.

    `legacy` samples with scale (n + 0.1)/side instead of n/side (the libraries' cure for rounding): visibly different
    numbers, and those with which the public TripoSR was trained.
    """
    side = math.isqrt(table.shape[1] - 1)
    if h == w == side:
        return table
    grid = table[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, width, side, side)
    if mode == "size":
        grid = F.interpolate(grid, size=(h, w), mode="bicubic")
    else:
        offset = 0.1 if mode == "legacy" else 0.0
        scale = ((h + offset) / side, (w + offset) / side)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", antialias=mode == "antialias")
    return torch.cat([table[:, :1], grid.flatten(2).mT.to(table.dtype)], 1)
