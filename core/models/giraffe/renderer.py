# SPDX-License-Identifier: GPL-3.0-or-later
"""GIRAFFE's neural renderer (feature picture to colours, figure 4) and its discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..parts.key_shapes import Shapes, count

SLOPE = 0.2


class Blur(nn.Module):
    """[1, 2, 1] x [1, 2, 1] / 16 with reflected borders; `f` is a buffer of the checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("f", torch.tensor([1.0, 2.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        kernel = self.f[:, None] * self.f[None]
        kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1])


def blurred_upsampling() -> nn.Sequential:
    """Twice the side, bilinear, then a blur."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), Blur())


@dataclass(frozen=True)
class RendererConfig:
    """Widths of a neural renderer."""

    widths: tuple[int, ...] = (128, 64, 32)
    """Channels of the feature picture and behind each doubling."""
    input_dim: int | None = None
    """Channels that come in where they differ from widths[0]: a 1x1 convolution adapts them."""
    smooth: bool = False
    """Features are doubled bilinearly instead of by repetition."""
    norm: bool = False
    """Instance norm before the activations; not visible in the weights."""


class NeuralRenderer(nn.Module):
    """Doubles the side of a feature picture once per layer, adding colours at every size."""

    def __init__(self, config: RendererConfig) -> None:
        super().__init__()
        self.norm = config.norm
        widths = config.widths
        if config.input_dim is not None:
            self.conv_in = nn.Conv2d(config.input_dim, widths[0], 1)
        self.upsample_2 = blurred_upsampling() if config.smooth else nn.Upsample(scale_factor=2.0)
        self.upsample_rgb = blurred_upsampling()
        pairs = zip(widths, widths[1:], strict=False)
        self.conv_layers = nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in pairs)
        self.conv_rgb = nn.ModuleList(nn.Conv2d(width, 3, 3, 1, 1) for width in widths)

    def forward(self, features: Tensor) -> Tensor:
        """features (B, F, R, R) -> colours (B, 3, R 2^n, R 2^n) in 0..1."""
        h = self.conv_in(features) if hasattr(self, "conv_in") else features
        rgb = self.upsample_rgb(self.conv_rgb[0](h))
        for i, layer in enumerate(self.conv_layers):
            h = layer(self.upsample_2(h))
            h = F.leaky_relu(F.instance_norm(h) if self.norm else h, SLOPE)
            rgb = rgb + self.conv_rgb[i + 1](h)
            if i + 1 < len(self.conv_layers):
                rgb = self.upsample_rgb(rgb)
        return torch.sigmoid(rgb)


class GiraffeDiscriminator(nn.Module):
    """`dc`: convolutions 4x4 with stride 2.

    Args:
        widths: channels, e.g. 64, 128, 256, 512 for 64 x 64 pictures.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = zip((3, *widths), widths, strict=False)
        self.blocks = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in pairs)
        self.conv_out = nn.Conv2d(widths[-1], 1, 4, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) in 0..1 -> logits (B, 1)."""
        for block in self.blocks:
            image = F.leaky_relu(block(image), SLOPE)
        logits: Tensor = self.conv_out(image)
        return logits.flatten(1)


def renderer_config_from(shapes: Shapes, norm: bool = False) -> RendererConfig:
    """Settings from the key shapes of a renderer."""
    n = count(shapes, "conv_rgb.{}.weight")
    widths = tuple(shapes[f"conv_rgb.{i}.weight"][1] for i in range(n))
    incoming = shapes.get("conv_in.weight")
    return RendererConfig(widths, incoming[1] if incoming else None, "upsample_2.1.f" in shapes, norm)


def discriminator_from(shapes: Shapes) -> GiraffeDiscriminator:
    """The discriminator whose key shapes these are."""
    return GiraffeDiscriminator(
        [shapes[f"blocks.{i}.weight"][0] for i in range(count(shapes, "blocks.{}.weight"))]
    )
