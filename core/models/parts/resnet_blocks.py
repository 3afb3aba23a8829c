# SPDX-License-Identifier: GPL-3.0-or-later
"""Residual blocks of Occupancy Networks (Mescheder et al. 2019, supplementary 1.1) and their conditional batch norm.

Features lie on the last axis everywhere, (B, T, F). Key names and weight shapes are those of the public checkpoints of
occupancy_networks, which ConvONet, DVR, Texture Fields and Occupancy Flow share; where those keep a linear map over
points as a 1x1 convolution, `Pointwise` holds it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .rows import RowLinear, linear


class Pointwise(nn.Conv1d):
    """A linear map of the last axis whose weight is stored as a convolution of size one, (out, in, 1)."""

    def __init__(self, size_in: int, size_out: int, bias: bool = True) -> None:
        super().__init__(size_in, size_out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        return linear(x, self.weight[..., 0], self.bias)


def linear_map(size_in: int, size_out: int, pointwise: bool, bias: bool = True) -> Pointwise | nn.Linear:
    """A linear layer in either of the two published storage forms."""
    return Pointwise(size_in, size_out, bias) if pointwise else RowLinear(size_in, size_out, bias=bias)


class PointBatchNorm(nn.BatchNorm1d):
    """Batch norm of the last axis; statistics over all points of all items."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., F) -> (..., F)."""
        return super().forward(x.reshape(-1, x.shape[-1])).reshape(x.shape)


class ConditionalBatchNorm1d(nn.Module):
    """y = gamma(c) (x - mean) / sqrt(var + 1e-5) + beta(c); gamma and beta are affine in the condition.

    Args:
        c_dim: width of the condition.
        features: channels of x.
        legacy: the first public models keep gamma and beta as Linear `fc_*` instead of Conv1d `conv_*`; same maths.
    """

    def __init__(self, c_dim: int, features: int, legacy: bool = False) -> None:
        super().__init__()
        self.kind = "fc" if legacy else "conv"
        for name in ("gamma", "beta"):
            layer = linear_map(c_dim, features, pointwise=not legacy)
            assert layer.bias is not None
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, float(name == "gamma"))
            self.add_module(f"{self.kind}_{name}", layer)
        self.bn = PointBatchNorm(features, affine=False)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (B, T, F), c (B, c_dim) -> (B, T, F)."""
        if self.training:
            gamma, beta = self._gamma_beta(c)
            return torch.addcmul(beta, gamma, self.bn(x))
        scale, shift = self.affine(c)
        return torch.addcmul(shift, scale, x)

    def behind(self, layer: Pointwise, x: Tensor, c: Tensor) -> Tensor:
        """The norm of layer(x), where one condition holds for all points folded into the layer."""
        if self.training or len(c) > 1:
            return self(layer(x), c)
        assert layer.bias is not None
        scale, shift = (value[0, 0] for value in self.affine(c))  # (F,)
        return linear(x, scale[:, None] * layer.weight[..., 0], torch.addcmul(shift, scale, layer.bias))

    def affine(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and offset (B, 1, F) that the running statistics make of a condition (B, c_dim); float32."""
        mean, var = self.bn.running_mean, self.bn.running_var
        assert mean is not None and var is not None
        with torch.autocast(c.device.type, enabled=False):
            gamma, beta = self._gamma_beta(c)
            scale = gamma * torch.rsqrt(var + self.bn.eps)
            return scale, beta - mean * scale

    def _gamma_beta(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, F) each."""
        gamma, beta = (self.get_submodule(f"{self.kind}_{name}")(c)[:, None] for name in ("gamma", "beta"))
        return gamma, beta


class ResnetBlockFC(nn.Module):
    """y = S(x) + fc_1(relu(fc_0(relu(x)))); S is the identity, or a linear map without bias where the width changes.

    Args:
        size_in, size_out: widths; `size_out` None keeps the width.
        size_hidden: None means the smaller of the two.
        pointwise: weights stored as 1x1 convolutions.
    """

    def __init__(
        self,
        size_in: int,
        size_out: int | None = None,
        size_hidden: int | None = None,
        pointwise: bool = False,
    ) -> None:
        super().__init__()
        size_out = size_in if size_out is None else size_out
        size_hidden = min(size_in, size_out) if size_hidden is None else size_hidden
        self.fc_0 = linear_map(size_in, size_hidden, pointwise)
        self.fc_1 = linear_map(size_hidden, size_out, pointwise)
        self.shortcut = linear_map(size_in, size_out, pointwise, bias=False) if size_in != size_out else None
        nn.init.zeros_(self.fc_1.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., size_in) -> (..., size_out)."""
        dx: Tensor = self.fc_1(F.relu(self.fc_0(F.relu(x))))
        return dx + (x if self.shortcut is None else self.shortcut(x))


class ResnetBlockConv1d(nn.Module):
    """y = S(x) + fc_1(relu(bn_1(fc_0(relu(bn_0(x)))))), plain batch norms."""

    def __init__(self, size_in: int, size_hidden: int | None = None, size_out: int | None = None) -> None:
        super().__init__()
        size_hidden = size_in if size_hidden is None else size_hidden
        size_out = size_in if size_out is None else size_out
        self.bn_0, self.bn_1 = PointBatchNorm(size_in), PointBatchNorm(size_hidden)
        self.fc_0, self.fc_1 = Pointwise(size_in, size_hidden), Pointwise(size_hidden, size_out)
        self.shortcut = Pointwise(size_in, size_out, bias=False) if size_in != size_out else None
        nn.init.zeros_(self.fc_1.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, size_in) -> (B, T, size_out)."""
        dx: Tensor = self.fc_1(F.relu(self.bn_1(self.fc_0(F.relu(self.bn_0(x))))))
        return dx + (x if self.shortcut is None else self.shortcut(x))


class CResnetBlockConv1d(nn.Module):
    """The same with conditional batch norms; the activation is relu even in the decoders called `leaky`."""

    def __init__(
        self,
        c_dim: int,
        size_in: int,
        size_hidden: int | None = None,
        size_out: int | None = None,
        legacy: bool = False,
    ) -> None:
        super().__init__()
        size_hidden = size_in if size_hidden is None else size_hidden
        size_out = size_in if size_out is None else size_out
        self.bn_0 = ConditionalBatchNorm1d(c_dim, size_in, legacy)
        self.bn_1 = ConditionalBatchNorm1d(c_dim, size_hidden, legacy)
        self.fc_0, self.fc_1 = Pointwise(size_in, size_hidden), Pointwise(size_hidden, size_out)
        self.shortcut = Pointwise(size_in, size_out, bias=False) if size_in != size_out else None
        nn.init.zeros_(self.fc_1.weight)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (B, T, size_in), c (B, c_dim) -> (B, T, size_out)."""
        dx: Tensor = self.fc_1(self.bn_1.behind(self.fc_0, self.bn_0(x, c).relu_(), c).relu_())
        return dx + (x if self.shortcut is None else self.shortcut(x))
