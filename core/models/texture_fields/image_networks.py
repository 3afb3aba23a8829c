# SPDX-License-Identifier: GPL-3.0-or-later
"""Picture networks of Texture Fields: discriminator and VAE encoder, residual blocks after Mescheder et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..parts.key_shapes import Shapes

SLOPE = 0.2


class ImageBlock(nn.Module):
    """y = S(x) + conv_1(lrelu(conv_0(lrelu(x))))."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        hidden = min(size_in, size_out)
        self.conv_0 = nn.Conv2d(size_in, hidden, 3, padding=1)
        self.conv_1 = nn.Conv2d(hidden, size_out, 3, padding=1)
        self.shortcut = nn.Conv2d(size_in, size_out, 1, bias=False) if size_in != size_out else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, size_in, H, W) -> (B, size_out, H, W)."""
        dx = self.conv_1(F.leaky_relu(self.conv_0(F.leaky_relu(x, SLOPE)), SLOPE))
        return dx + (x if self.shortcut is None else self.shortcut(x))


def pyramid(widths: Sequence[int]) -> nn.Sequential:
    """Residual blocks with 3x3 average pooling between them; the first keeps its width."""
    layers: list[nn.Module] = [ImageBlock(widths[0], widths[0])]
    for size_in, size_out in zip(widths, widths[1:], strict=False):
        layers += [nn.AvgPool2d(3, 2, 1), ImageBlock(size_in, size_out)]
    return nn.Sequential(*layers)


class TextureDiscriminator(nn.Module):
    """Realism of a picture with its depth map.

    Args:
        widths: channels of the pyramid.
        side: side of the last feature map (4 in the public models).
    """

    def __init__(self, widths: Sequence[int], side: int = 4) -> None:
        super().__init__()
        self.conv_img = nn.Conv2d(4, widths[0], 3, padding=1)
        self.resnet = pyramid(widths)
        self.fc = nn.Linear(widths[-1] * side * side, 1)

    def forward(self, image: Tensor, depth: Tensor) -> Tensor:
        """image (B, 3, M, M) 0..1, depth (B, 1, M, M) -> logits (B,)."""
        x = self.resnet(self.conv_img(torch.cat([image, depth], 1)))
        logits: Tensor = self.fc(F.leaky_relu(x.flatten(1), SLOPE))
        return logits[:, 0]


class ImageEncoder(nn.Module):
    """q(z | picture, shape) of the variational model."""

    def __init__(self, widths: Sequence[int], side: int, z_dim: int, c_dim: int) -> None:
        super().__init__()
        self.conv_img = nn.Conv2d(3, widths[0], 3, padding=1)
        self.resnet = pyramid(widths)
        self.fc_mean = nn.Linear(widths[-1] * side * side, z_dim)
        self.fc_logstd = nn.Linear(widths[-1] * side * side, z_dim)
        self.fc_inject_c = nn.Linear(c_dim, widths[0])

    def forward(self, image: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 3, M, M), shape code c (B, c_dim) -> mean and log standard deviation (B, z_dim)."""
        x = self.conv_img(image) + self.fc_inject_c(c)[..., None, None]
        x = F.leaky_relu(self.resnet(x).flatten(1), SLOPE)
        return self.fc_mean(x), self.fc_logstd(x)


def image_widths(shapes: Shapes, last: str) -> tuple[tuple[int, ...], int]:
    """Channels of the pyramid and the side of its last map, from the key shapes; `last` names the layer behind it."""
    widths: list[int] = []
    while (key := f"resnet.{2 * len(widths)}.conv_1.weight") in shapes:
        widths.append(shapes[key][0])
    return tuple(widths), round((shapes[last][1] / widths[-1]) ** 0.5)
