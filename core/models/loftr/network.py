# SPDX-License-Identifier: GPL-3.0-or-later
"""LoFTR (Sun et al. 2021): coarse matches by linear attention, refined within windows. Section numbers are the paper's.

Loads `indoor_ds_new.ckpt` (211 tensors under `state_dict`, prefix `matcher.`) in its own layout; parameter names are ours
and the file's alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.key_layout import KeyLayout, load_public
from .backbone import Backbone

LAYOUT = KeyLayout(optional=r"num_batches_tracked$")


@dataclass(frozen=True)
class LoFTRConfig:
    """Sizes and thresholds; defaults are those of the indoor dual-softmax model."""

    first: int = 128
    widths: tuple[int, int, int] = (128, 196, 256)
    coarse_layers: tuple[str, ...] = ("self", "cross") * 4
    fine_layers: tuple[str, ...] = ("self", "cross")
    coarse_heads: int = 8
    fine_heads: int = 8
    window: int = 5
    """Side of the windows of the fine step, in cells of the 1/2 map."""
    threshold: float = 0.2
    """Least confidence of a coarse match."""
    border: int = 2
    """Cells of the 1/8 map that are left out along every edge."""
    temperature: float = 0.1
    fixed_positions: bool = True
    """The frequencies as meant; False: those of the first release, where a division rounded to an integer."""

    @classmethod
    def from_public(cls, public: Mapping[str, Any]) -> LoFTRConfig:
        """The `LOFTR` part of the public configuration, keys in lower case."""
        match = public["match_coarse"]
        return cls(
            first=public["resnetfpn"]["initial_dim"],
            widths=tuple(public["resnetfpn"]["block_dims"]),
            coarse_layers=tuple(public["coarse"]["layer_names"]),
            fine_layers=tuple(public["fine"]["layer_names"]),
            coarse_heads=public["coarse"]["nhead"],
            fine_heads=public["fine"]["nhead"],
            window=public["fine_window_size"],
            threshold=match["thr"],
            border=match["border_rm"],
            temperature=match["dsmax_temperature"],
            fixed_positions=public["coarse"].get("temp_bug_fix", True),
        )


@dataclass(frozen=True)
class Matches:
    """Matches of one pair of pictures, in pixels of the pictures given to the network (pixel centres at integers)."""

    points0: Tensor
    """(M, 2) x, y in picture 0: multiples of 8."""
    points1: Tensor
    """(M, 2) x, y in picture 1, refined."""
    confidence: Tensor
    """(M,) of the coarse match."""
    coarse_confidence: Tensor
    """(N0, N1) of all pairs of cells."""
    expectation: Tensor
    """(M, 3) offset in windows of -1..1, and its standard deviation."""


class LinearAttentionLayer(nn.Module):
    """x + LN(MLP([x, LN(merge(attention))])), attention in linear time (section 3.2; Katharopoulos et al. 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.merge = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.mlp = nn.Sequential(
            nn.Linear(2 * width, 2 * width, bias=False), nn.ReLU(), nn.Linear(2 * width, width, bias=False)
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """x (B, N, width), source (B, S, width) -> (B, N, width)."""
        q, k, v = (
            layer(tokens).unflatten(2, (self.heads, -1))
            for layer, tokens in ((self.q_proj, x), (self.k_proj, source), (self.v_proj, source))
        )  # (B, N or S, heads, d)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        size = source.shape[1]
        key_value = torch.einsum("bshd,bshv->bhdv", k, v / size)  # divided for half precision's sake
        normaliser = 1 / (torch.einsum("bnhd,bhd->bnh", q, k.sum(1)) + 1e-6)
        message = torch.einsum("bnhd,bhdv,bnh->bnhv", q, key_value, normaliser) * size
        message = self.norm1(self.merge(message.flatten(2)))
        return x + self.norm2(self.mlp(torch.cat([x, message], 2)))


class LocalTransformer(nn.Module):
    """Layers that look at the own picture ("self") or at the other one ("cross") in turn."""

    def __init__(self, width: int, heads: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.layers = nn.ModuleList(LinearAttentionLayer(width, heads) for _ in names)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """a (B, N, width), b (B, S, width) -> the same shapes. In a cross layer b already sees the new a."""
        for name, layer in zip(self.names, self.layers, strict=True):
            if name == "self":
                a, b = layer(a, a), layer(b, b)
            else:
                a = layer(a, b)
                b = layer(b, a)
        return a, b


class FinePreprocess(nn.Module):
    """Joins a window of fine features with the coarse feature of its cell (section 3.4)."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.down_proj = nn.Linear(coarse, fine)
        self.merge_feat = nn.Linear(2 * fine, fine)

    def forward(self, windows: Tensor, coarse: Tensor) -> Tensor:
        """windows (M, W*W, fine), coarse (M, coarse) -> (M, W*W, fine)."""
        cell = self.down_proj(coarse)[:, None].expand(-1, windows.shape[1], -1)
        return self.merge_feat(torch.cat([windows, cell], 2))


class LoFTR(nn.Module):
    """Two grey pictures -> matches."""

    def __init__(self, config: LoFTRConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or LoFTRConfig()
        fine, _, coarse = c.widths
        self.backbone = Backbone(c.first, c.widths)
        self.loftr_coarse = LocalTransformer(coarse, c.coarse_heads, c.coarse_layers)
        self.fine_preprocess = FinePreprocess(coarse, fine)
        self.loftr_fine = LocalTransformer(fine, c.fine_heads, c.fine_layers)

    def forward(self, image0: Tensor, image1: Tensor) -> Matches:
        """image0, image1 (1, H, W) grey 0..1, sides multiples of 8 -> matches."""
        coarse0, fine0 = self.backbone(image0[None])
        coarse1, fine1 = self.backbone(image1[None])
        (h0, w0), (h1, w1) = coarse0.shape[2:], coarse1.shape[2:]
        a, b = (c + positions(c.shape, self.config.fixed_positions).to(c) for c in (coarse0, coarse1))
        a, b = self.loftr_coarse(a.flatten(2).mT, b.flatten(2).mT)  # (1, N0, C), (1, N1, C)
        confidence = self.confidence(a[0], b[0])  # (N0, N1)
        i, j = self.mutual(confidence, (h0, w0), (h1, w1))
        window = self.config.window
        near0, near1 = (windows(f, window, f.shape[2] // h)[0] for f, h in ((fine0, h0), (fine1, h1)))
        near0 = self.fine_preprocess(near0[i], a[0, i])
        near1 = self.fine_preprocess(near1[j], b[0, j])
        near0, near1 = self.loftr_fine(near0, near1)
        expectation = expected_offset(near0[:, window * window // 2], near1, window)
        cell = image0.shape[1] // h0  # 8
        step = image0.shape[1] // fine0.shape[2]  # 2
        points0 = torch.stack([i % w0, i // w0], 1) * float(cell)
        points1 = torch.stack([j % w1, j // w1], 1) * float(cell) + expectation[:, :2] * (window // 2) * step
        return Matches(points0, points1, confidence[i, j], confidence, expectation)

    def confidence(self, a: Tensor, b: Tensor) -> Tensor:
        """Dual softmax (equation 1): a (N0, C), b (N1, C) -> (N0, N1)."""
        similarity = a @ b.T / (a.shape[1] * self.config.temperature)
        return torch.softmax(similarity, 0) * torch.softmax(similarity, 1)

    def mutual(
        self, confidence: Tensor, size0: tuple[int, int], size1: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Cells that are each other's best, confident enough and not at the border: indices (M,) and (M,), by the first."""
        keep = confidence > self.config.threshold
        keep &= inner(size0, self.config.border, confidence.device)[:, None]
        keep &= inner(size1, self.config.border, confidence.device)
        keep &= confidence == confidence.amax(1, keepdim=True)
        keep &= confidence == confidence.amax(0, keepdim=True)
        i = keep.any(1).nonzero()[:, 0]
        return i, keep[i].int().argmax(1)

    @classmethod
    def from_public(cls, tensors: Mapping[str, Tensor], config: LoFTRConfig | None = None) -> LoFTR:
        """The network with the weights of a public file (name -> tensor), with or without `matcher.`.

        Raises:
            InputError: WEIGHTS_MISMATCH when names or shapes differ.
        """
        with torch.device("meta"):
            model = cls(config)
        load_public(model, {name.removeprefix("matcher."): t for name, t in tensors.items()}, LAYOUT)
        return model


def positions(shape: torch.Size, fixed: bool = True) -> Tensor:
    """Sinusoidal positions (1, C, H, W): sin x, cos x, sin y, cos y in turn for each frequency, x and y from 1."""
    channels, height, width = shape[1:]
    half = channels // 2
    rate = -math.log(10000.0) / half if fixed else float(-math.log(10000.0) / channels // 2)
    frequencies = torch.exp(torch.arange(0, half, 2).float() * rate)[:, None, None]
    y = torch.arange(1, height + 1).float()[:, None].expand(height, width) * frequencies
    x = torch.arange(1, width + 1).float().expand(height, width) * frequencies
    return torch.stack([x.sin(), x.cos(), y.sin(), y.cos()], 1).flatten(0, 1)[None]


def inner(size: tuple[int, int], border: int, device: torch.device) -> Tensor:
    """(H*W,) bool: cells that are not within `border` of an edge."""
    keep = torch.zeros(size, dtype=torch.bool, device=device)
    keep[border : size[0] - border, border : size[1] - border] = True
    return keep.flatten()


def windows(fine: Tensor, side: int, stride: int) -> Tensor:
    """fine (1, C, H, W) -> (1, cells, side*side, C), one window around every coarse cell."""
    unfolded = F.unfold(fine, side, stride=stride, padding=side // 2)  # (1, C*side*side, cells)
    return unfolded.unflatten(1, (fine.shape[1], side * side)).permute(0, 3, 2, 1)


def expected_offset(centre: Tensor, window: Tensor, side: int) -> Tensor:
    """Expectation of the match in a window (section 3.4).

    Args:
        centre: (M, C) feature in picture 0.
        window: (M, side*side, C) features in picture 1.
        side: of the window.

    Returns:
        (M, 3): x, y in -1..1, standard deviation summed over both axes.
    """
    heat = torch.softmax(torch.einsum("mc,mrc->mr", centre, window) / centre.shape[1] ** 0.5, 1)
    axis = torch.linspace(-1, 1, side, device=heat.device)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)  # (side*side, 2) x, y
    mean = heat @ grid
    variance = heat @ grid.square() - mean.square()
    deviation = variance.clamp(min=1e-10).sqrt().sum(1, keepdim=True)
    return torch.cat([mean, deviation], 1)
