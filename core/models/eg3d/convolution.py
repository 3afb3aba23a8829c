# SPDX-License-Identifier: GPL-3.0-or-later
"""StyleGAN2's primitives (Karras et al. 2020): equalised layers, modulated convolutions, the resampling filter.

Weights are stored with unit variance and scaled when they are used. Pictures are (B, C, H, W), held channels last, which
the convolutions of a processor are fastest with.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
GAIN = math.sqrt(2.0)
"""Of the leaky ReLU: keeps the variance."""


def filter_2d() -> Tensor:
    """(4, 4) binomial filter [1, 3, 3, 1] in both directions, sum 1; stored with every layer that might resample."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(line, line) / 64.0


def filtered(x: Tensor, padding: int, gain: float = 1.0, bias: Tensor | None = None) -> Tensor:
    """(B, C, H, W) -> (B, C, H + 2 padding - 3, W + 2 padding - 3): the filter on every channel, zeros around, and bias (C,)."""
    channels = x.shape[1]
    kernel = (filter_2d() * gain).to(x).expand(channels, 1, 4, 4)
    return F.conv2d(x, kernel, bias, padding=padding, groups=channels)


def upsampled(image: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W): zeros between, filter with gain 4.

    Between pixel centres that filter is linear interpolation, a quarter and three quarters; only that zeros lie outside.
    """
    padded = F.pad(image, (1, 1, 1, 1))
    return F.interpolate(padded, scale_factor=2.0, mode="bilinear", align_corners=False)[..., 2:-2, 2:-2]


class FullyConnected(nn.Module):
    """x W^T rate / sqrt(in) + b rate, then the leaky ReLU where wanted.

    Args:
        rate: learning-rate factor by which the stored weights are divided.
        bias: initial value; the modulating layers start at 1.
    """

    def __init__(
        self, width: int, out: int, rate: float = 1.0, bias: float = 0.0, active: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, width) / rate)
        self.bias = nn.Parameter(torch.full((out,), bias / rate))
        self.rate, self.active = rate, active

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., out)."""
        scale = self.rate / math.sqrt(self.weight.shape[1])
        y = F.linear(x, self.weight * scale, self.bias * self.rate)
        return F.leaky_relu(y, SLOPE) * GAIN if self.active else y


def modulated(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor,
    up: bool = False,
    demodulate: bool = True,
    gain: float = 1.0,
) -> Tensor:
    """Convolution whose weights are scaled per input channel, and normalised per output channel (section 2.2), and bias.

    Args:
        x: (B, I, H, W).
        weight: (O, I, k, k), k odd.
        style: (B, I).
        bias: (O,), added at the end.
        up: double the side; k = 3. The result is filtered.
        demodulate: unit variance of the outputs.
        gain: factor on the result before the bias.

    Returns:
        (B, O, H, W) or (B, O, 2H, 2W), in the dtype of x, which the weights are rounded to last.
    """
    bias, after = bias.to(x.dtype), None
    if len(x) == 1 and x.numel() > weight.numel():
        weight = weight * (style[0] * gain)[:, None, None]
        if demodulate:
            power = weight.square().sum((1, 2, 3), keepdim=True) / gain**2
            weight = weight * torch.rsqrt(power + 1e-8)
    else:  # the weights stay: scale what goes in and what comes out
        x = x * style.to(x.dtype)[:, :, None, None]
        after = torch.full_like(style[:, :1], gain)
        if demodulate:
            after = gain * torch.rsqrt(style.square() @ weight.square().sum((2, 3)).T + 1e-8)  # (B, O)
    weight = weight.to(x.dtype)
    own = bias if after is None else None
    if up:
        y = filtered(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), 1, 4.0, own)
    else:
        y = F.conv2d(x, weight, own, padding=weight.shape[-1] // 2)
    return y if after is None else torch.addcmul(bias[:, None, None], y, after.to(y.dtype)[:, :, None, None])


def activated(y: Tensor, clamp: float | None) -> Tensor:
    """Leaky ReLU of what already carries its gain, and the clamp; may work in place."""
    y = F.leaky_relu_(y, SLOPE)
    if clamp is None:
        return y
    return y.clamp(-clamp, clamp) if y.requires_grad else y.clamp_(-clamp, clamp)
