# SPDX-License-Identifier: GPL-3.0-or-later
"""DINOv2 that also attends across views: from block 4 on, every second block sees the tokens of all pictures together.

Rotary positions in two dimensions: Su et al. 2021, Heo et al. 2024. Parameter names as in the public checkpoints, below
`backbone.pretrained.`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.transformer import LayerScale, Mlp, resized_positions

ROPE_BASE = 100.0
_EPS = 1e-6


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes; defaults are those of Small."""

    width: int = 384
    heads: int = 6
    depth: int = 12
    patch: int = 14
    grid: int = 37
    """Side of the position table."""
    rotary_from: int = 4
    """First block with rotary positions and normalised queries; there the camera token replaces the class token."""
    taken: tuple[int, ...] = (5, 7, 9, 11)
    """Blocks whose output is taken; they and every second block between attend across views."""

    def across(self, block: int) -> bool:
        """Whether a block attends over the tokens of all views."""
        return block > self.rotary_from and (block - self.rotary_from) % 2 == 1


class RotaryAttention(nn.Module):
    """Self-attention with normalised queries and keys, turned by their positions where these are given."""

    def __init__(self, width: int, heads: int, rotary: bool) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        if rotary:
            self.q_norm, self.k_norm = (nn.LayerNorm(width // heads, _EPS) for _ in range(2))

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """x (B, N, width), places (N, 2) rows and columns -> (B, N, width)."""
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, 2))
        if self.rotary:
            q, k = rotate(self.q_norm(q), places), rotate(self.k_norm(k), places)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def rotate(x: Tensor, places: Tensor) -> Tensor:
    """x (B, heads, N, d): the first half of d turned by the row, the second by the column; pairs lie d/4 apart."""
    quarter = x.shape[-1] // 4
    rates = ROPE_BASE ** (-torch.arange(quarter, device=x.device, dtype=torch.float32) / quarter)
    turned = []
    for part, place in zip(x.chunk(2, -1), places.unbind(1), strict=True):
        angle = place[:, None].to(rates) * rates  # (N, d/4)
        cos, sin = (f(angle).to(x.dtype).repeat(1, 2) for f in (torch.cos, torch.sin))  # (N, d/2)
        low, high = part.chunk(2, -1)
        turned.append(part * cos + torch.cat([-high, low], -1) * sin)
    return torch.cat(turned, -1)


class MultiViewBlock(nn.Module):
    """Pre-norm transformer block with layer scale."""

    def __init__(self, width: int, heads: int, rotary: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, _EPS), nn.LayerNorm(width, _EPS)
        self.attn = RotaryAttention(width, heads, rotary)
        self.mlp = Mlp(width, 4 * width)
        self.ls1, self.ls2 = LayerScale(width), LayerScale(width)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """x (B, N, width), places (N, 2) -> (B, N, width)."""
        x = x + self.ls1(self.attn(self.norm1(x), places))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Backbone(nn.Module):
    """Pictures -> features of four depths."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = c = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c.width))
        self.camera_token = nn.Parameter(torch.zeros(1, 2, c.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + c.grid**2, c.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, c.width, c.patch, c.patch)})
        self.blocks = nn.ModuleList(
            MultiViewBlock(c.width, c.heads, i >= c.rotary_from) for i in range(c.depth)
        )
        self.norm = nn.LayerNorm(c.width, 1e-5)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Normalised pictures of one scene -> features and camera tokens, in the pictures' order.

        Args:
            images: (S, 3, H, W), ImageNet mean and deviation removed, sides multiples of the patch.

        Returns:
            Four times (S, N, 2 width): last per-view output and (normalised) output across views; (S, 2 width) camera tokens.
        """
        c = self.config
        patches = self.patch_embed["proj"](images)  # (S, width, h, w)
        h, w = patches.shape[2:]
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).mT], 1)
        x = x + resized_positions(self.pos_embed, h, w, "legacy")  # (S, 1 + N, width)
        own, shared = places(h, w, images.device)
        order = torch.arange(len(images), device=images.device)
        features: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            if i == c.rotary_from - 1 and len(images) >= 3:
                order = reference_first(x[:, 0])
                x = x[order]
            if i == c.rotary_from:  # the first view is the reference
                tokens = torch.cat(
                    [self.camera_token[0, :1], self.camera_token[0, 1:].expand(len(images) - 1, -1)]
                )
                x = torch.cat([tokens[:, None], x[:, 1:]], 1)
            if c.across(i):
                local = x
                x = block(x.flatten(0, 1)[None], shared.repeat(len(images), 1))[0].unflatten(
                    0, (len(images), -1)
                )
            else:
                x = block(x, own)
            if i in c.taken:
                features.append(torch.cat([local, x], 2))
        back = order.argsort()
        camera = features[-1][back, 0]
        return [self.normed(f[back, 1:]) for f in features], camera

    def normed(self, feature: Tensor) -> Tensor:
        """The final norm on the second half of the channels only."""
        local, x = feature.chunk(2, 2)
        return torch.cat([local, self.norm(x)], 2)


def places(h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rotary positions (1 + h*w, 2) of one view's tokens: within the view (from 1; first token 0), and across views (1)."""
    grid = torch.cartesian_prod(torch.arange(h, device=device), torch.arange(w, device=device)) + 1
    first = torch.zeros(1, 2, dtype=grid.dtype, device=device)
    return torch.cat([first, grid]), torch.cat([first, torch.ones_like(grid)])


def reference_first(tokens: Tensor) -> Tensor:
    """Order of the views (S,) with the most ordinary one in front.

    Three scores of a view's first token (mean cosine to the others, norm, variance), each stretched to 0..1 over the
    views; the view whose scores lie closest to 0.5 in sum is the reference.
    """
    unit = F.normalize(tokens.float(), dim=1)
    similarity = unit @ unit.T
    others = (similarity.sum(1) - similarity.diagonal()) / (len(tokens) - 1)
    scores = torch.stack([others, tokens.float().norm(dim=1), tokens.float().var(1)])  # (3, S)
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    stretched = (scores - low) / (high - low).clamp(min=1e-8)
    best = int((stretched - 0.5).abs().sum(0).argmin())
    rest = [i for i in range(len(tokens)) if i != best]
    return torch.tensor([best, *rest], device=tokens.device)


def patches_of(size: int, patch: int) -> int:
    """Nearest multiple of the patch, at least one patch."""
    return max(patch, math.floor(size / patch + 0.5) * patch)
