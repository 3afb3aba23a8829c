# SPDX-License-Identifier: GPL-3.0-or-later
"""Picture -> latent rows and camera of a head: StyleGAN2's residual discriminator with two heads (3D-aware blending, section 3.1).

The camera looks at the origin from a fixed distance, so three angles say all. Parameters have the public names, the
resampling filters included, which are always the same and not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.key_layout import KeyLayout, load_public
from ..parts.key_shapes import Shapes
from .cameras import FOCAL, RADIUS, intrinsics
from .configuration import widths
from .convolution import GAIN, SLOPE, FullyConnected, filter_2d, filtered


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes; the defaults are the published ones."""

    side: int = 512
    """Pixels of the picture."""
    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64)
    """At 4, 8 ... `side` pixels."""
    latent: int = 512
    rows: int = 14
    clamp: float | None = 256.0
    """Limit of activations."""
    radius: float = RADIUS
    """Distance of the camera from the origin."""
    focal: float = FOCAL


class Encoded(NamedTuple):
    """What a picture says."""

    ws: Tensor
    """(B, rows, latent), all rows equal."""
    angles: Tensor
    """(B, 3) radians: R = Rx Ry Rz."""
    label: Tensor
    """(B, 25)."""


class Convolution(nn.Module):
    """Equalised convolution, optional bias and leaky ReLU, optionally halving the side after the filter."""

    def __init__(
        self,
        width: int,
        out: int,
        size: int,
        down: bool = False,
        plain: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, width, size, size))
        self.bias = None if plain else nn.Parameter(torch.zeros(out))
        self.register_buffer("resample_filter", filter_2d())
        self.down, self.clamp = down, clamp

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """(B, width, H, W) -> (B, out, H, W) or half of it."""
        size = self.weight.shape[-1]
        weight = self.weight / math.sqrt(self.weight[0].numel())
        if self.down and size == 1:
            y = F.conv2d(filtered(x, 1)[..., ::2, ::2], weight, self.bias)
        elif self.down:
            y = F.conv2d(filtered(x, 2), weight, self.bias, stride=2)
        else:
            y = F.conv2d(x, weight, self.bias, padding=size // 2)
        if self.bias is None:
            return y * gain
        y = F.leaky_relu(y, SLOPE) * (GAIN * gain)
        return y if self.clamp is None else y.clamp(-self.clamp * gain, self.clamp * gain)


class EncoderBlock(nn.Module):
    """Halves the side: two convolutions beside a shortcut."""

    def __init__(self, width: int, out: int, first: bool, clamp: float | None) -> None:
        super().__init__()
        self.register_buffer("resample_filter", filter_2d())
        if first:
            self.fromrgb = Convolution(3, width, 1, clamp=clamp)
        self.first = first
        self.conv0 = Convolution(width, width, 3, clamp=clamp)
        self.conv1 = Convolution(width, out, 3, down=True, clamp=clamp)
        self.skip = Convolution(width, out, 1, down=True, plain=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W), or the picture in the first block -> (B, out, H / 2, W / 2)."""
        if self.first:
            x = self.fromrgb(x)
        half = math.sqrt(0.5)
        return self.skip(x, half) + self.conv1(self.conv0(x), half)


class EncoderEnd(nn.Module):
    """4 x 4 features -> latent and angles."""

    def __init__(self, width: int, latent: int, clamp: float | None) -> None:
        super().__init__()
        self.conv = Convolution(width, width, 3, clamp=clamp)
        self.fc = FullyConnected(16 * width, width, active=True)
        self.latent = FullyConnected(width, latent)
        self.pose = FullyConnected(width, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width, 4, 4) -> (B, latent), (B, 3)."""
        x = self.fc(self.conv(x).flatten(1))
        return self.latent(x), self.pose(x)


class PoseEncoder(nn.Module):
    """Picture -> latent rows, angles and label."""

    def __init__(self, config: EncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EncoderConfig()
        outwards = config.channels[::-1]
        for level, (width, out) in enumerate(pairwise(outwards)):
            self.add_module(f"b{config.side >> level}", EncoderBlock(width, out, level == 0, config.clamp))
        self.b4 = EncoderEnd(config.channels[0], config.latent, config.clamp)

    @classmethod
    def from_public(cls, tensors: Mapping[str, Tensor], rows: int = 14) -> PoseEncoder:
        """Network from the weights of a public file.

        Raises:
            InputError: WEIGHTS_MISMATCH. KeyError, ValueError: no such encoder.
        """
        with torch.device("meta"):
            network = cls(encoder_config_from({name: tuple(t.shape) for name, t in tensors.items()}, rows))
        load_public(network, tensors, KeyLayout())
        return network

    def forward(self, image: Tensor) -> Encoded:
        """image (B, 3, side, side), -1..1."""
        x = image.contiguous(memory_format=torch.channels_last)
        for level in range(len(self.config.channels) - 1):
            x = self.get_submodule(f"b{self.config.side >> level}")(x)
        latent, angles = self.b4(x)
        label = labels_of(angles, self.config.radius, self.config.focal)
        return Encoded(latent[:, None].expand(-1, self.config.rows, -1), angles, label)


def labels_of(angles: Tensor, radius: float = RADIUS, focal: float = FOCAL) -> Tensor:
    """Angles (B, 3) -> labels (B, 25) of cameras that look at the origin; differentiable."""
    rotation = rotation_xyz(angles)  # (B, 3, 3)
    pose = torch.cat([rotation, -radius * rotation[:, :, 2:]], 2).flatten(1)  # (B, 12)
    rest = torch.tensor([0.0, 0.0, 0.0, 1.0, *intrinsics(focal).flatten()]).to(pose)
    return torch.cat([pose, rest.expand(len(pose), -1)], 1)


def rotation_xyz(angles: Tensor) -> Tensor:
    """(B, 3) -> (B, 3, 3), Rx(a) Ry(b) Rz(c), right-handed, for column vectors."""
    (sa, sb, sc), (ca, cb, cc) = angles.sin().unbind(1), angles.cos().unbind(1)
    rows = [
        cb * cc, -cb * sc, sb,
        sa * sb * cc + ca * sc, -sa * sb * sc + ca * cc, -sa * cb,
        -ca * sb * cc + sa * sc, ca * sb * sc + sa * cc, ca * cb,
    ]  # fmt: skip
    return torch.stack(rows, 1).view(-1, 3, 3)


def encoder_config_from(shapes: Shapes, rows: int = 14) -> EncoderConfig:
    """Sizes from key shapes; how many rows the generator has they do not say.

    Raises:
        KeyError, ValueError: these are not the shapes of such an encoder.
    """
    side = max(int(key[1:].split(".")[0]) for key in shapes if key.endswith(".fromrgb.weight"))
    levels = widths(1, 1, side)
    inner = [shapes[f"b{8 << i}.conv0.weight"][0] for i in range(len(levels) - 1)]
    latent, first = shapes["b4.latent.weight"]
    return EncoderConfig(side, (first, *inner), latent, rows)
