# SPDX-License-Identifier: GPL-3.0-or-later
"""StyleGAN2's synthesis blocks (Karras et al. 2020), the tri-plane backbone and the super-resolution built of them.

Names are those of the public files. They store the resampling filter with every layer; it is always [1, 3, 3, 1], so the
stored copies are kept and not read.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration import Eg3dConfig, SuperResolutionConfig
from .convolution import GAIN, FullyConnected, activated, filter_2d, modulated, upsampled

Noise = Literal["const", "random", "none"]


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU, clamp."""

    noise_const: Tensor

    def __init__(
        self, width: int, out: int, w_width: int, side: int, up: bool = False, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.affine = FullyConnected(w_width, width, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out, width, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out))
        self.register_buffer("resample_filter", filter_2d())
        self.register_buffer("noise_const", torch.randn(side, side))
        self.up, self.clamp = up, clamp

    def forward(self, x: Tensor, w: Tensor, noise: Noise) -> Tensor:
        """x (B, width, H, W), w (B, w_width) -> (B, out, S, S)."""
        # The leaky ReLU scales with its input, so its gain is given to what goes in: one pass over the picture less.
        y = modulated(x, self.weight, self.affine(w), self.bias * GAIN, self.up, gain=GAIN)
        if noise != "none":
            grid = self.noise_const if noise == "const" else torch.randn_like(y[:, :1])
            y.add_(grid * (self.noise_strength * GAIN))
        return activated(y, self.clamp)


class ToRgb(nn.Module):
    """Modulated 1x1 convolution without normalisation, bias, clamp."""

    def __init__(self, width: int, out: int, w_width: int, clamp: float | None = None) -> None:
        super().__init__()
        self.affine = FullyConnected(w_width, width, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out, width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out))
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x (B, width, S, S), w (B, w_width) -> (B, out, S, S)."""
        style = self.affine(w) / math.sqrt(self.weight.shape[1])
        y = modulated(x, self.weight, style, self.bias, demodulate=False).to(w.dtype)
        return y if self.clamp is None else y.clamp_(-self.clamp, self.clamp)


class SynthesisBlock(nn.Module):
    """One resolution: a convolution that may double the side (not in the first block, which starts from a learnt constant),
    a second one, and what it adds to the picture. With `detail` a learnt constant of this side is added in between (our choice).
    """

    def __init__(
        self,
        width: int,
        out: int,
        w_width: int,
        side: int,
        image_channels: int,
        up: bool = True,
        clamp: float | None = None,
        detail: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("resample_filter", filter_2d())
        self.up = up
        self.detail = nn.Parameter(torch.zeros(out, side, side)) if width and detail else None
        if width:
            self.conv0 = SynthesisLayer(width, out, w_width, side, up, clamp)
        else:
            self.const = nn.Parameter(torch.randn(out, side, side))
        self.conv1 = SynthesisLayer(out, out, w_width, side, False, clamp)
        self.torgb = ToRgb(out, image_channels, w_width, clamp)

    def forward(
        self, x: Tensor | None, image: Tensor | None, rows: tuple[Tensor, ...], noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """x and picture of the block before, one latent row (B, w_width) per layer -> x and picture of this block."""
        *convolutions, last = rows
        if x is None:
            x = self.const.expand(len(last), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        else:
            x = self.conv0(x, convolutions.pop(0), noise)
            if self.detail is not None:
                x = x + self.detail
        x = self.conv1(x, convolutions[0], noise)
        added = self.torgb(x, last)
        if image is not None:
            added = added + (upsampled(image) if self.up else image)
        return x, added


class Synthesis(nn.Module):
    """Latent rows -> the three planes side by side as one picture."""

    def __init__(self, config: Eg3dConfig) -> None:
        super().__init__()
        self.sides = [config.first_side << i for i in range(len(config.channels))]
        for side, (width, out) in zip(self.sides, pairwise((0, *config.channels)), strict=True):
            block = SynthesisBlock(
                width,
                out,
                config.w_width,
                side,
                3 * config.plane_features,
                True,
                config.clamp,
                config.details,
            )
            self.add_module(f"b{side}", block)

    def forward(
        self, ws: Tensor, noise: Noise = "const", stages: list[tuple[Tensor, Tensor]] | None = None
    ) -> Tensor:
        """ws (B, rows, w_width) -> (B, 3 C, S, S). `stages` receives (x, picture) after every block."""
        x = image = None
        for level, side in enumerate(self.sides):
            # A block's last row is the next block's first: ToRGB takes what it leaves.
            first = max(2 * level - 1, 0)
            x, image = getattr(self, f"b{side}")(x, image, ws[:, first : 2 * level + 2].unbind(1), noise)
            if stages is not None:
                stages.append((x, image))
        assert image is not None
        return image


class SuperResolution(nn.Module):
    """Feature picture and its colours -> final picture, with the last latent row."""

    def __init__(self, config: SuperResolutionConfig, features: int, w_width: int) -> None:
        super().__init__()
        self.config = config
        self.precision = torch.float32
        """Of the convolutions where no gradients are wanted; published in half precision. bfloat16 takes half the time where the
        machine computes with it."""
        side, width = config.side, features
        for number, (up, out) in enumerate(zip(config.ups, config.widths, strict=True)):
            side *= 2 if up else 1
            self.add_module(f"block{number}", SynthesisBlock(width, out, w_width, side, 3, up, config.clamp))
            width = out
        if config.own_filter:
            self.register_buffer("resample_filter", filter_2d())

    def forward(self, features: Tensor, w: Tensor, noise: Noise = "none", antialias: bool = True) -> Tensor:
        """features (B, C, R, R) whose first three channels are colours, w (B, w_width) -> (B, 3, S, S), about -1..1.

        Raises:
            ValueError: the feature picture is larger than the module was made for, and it cannot reduce (Hybrid4X).
        """
        side, given = self.config.side, features.dtype
        if features.shape[-1] != side:
            if self.config.upscale_only and features.shape[-1] > side:
                raise ValueError(f"feature picture of {features.shape[-1]} pixels, at most {side}")
            features = F.interpolate(
                features, size=(side, side), mode="bilinear", align_corners=False, antialias=antialias
            )
        image = features[:, :3]
        precision = torch.float32 if torch.is_grad_enabled() else self.precision
        x = features.to(precision).contiguous(memory_format=torch.channels_last)
        for number in (0, 1):
            x, image = self.get_submodule(f"block{number}")(x, image, (w, w, w), noise)
        return image.to(given)
