# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the three planes at points, and the small network behind them (EG3D, sections 4.1 and 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from ...fields.triplane import Fovea, magnified
from ..parts.rows import linear
from .configuration import BEND
from .convolution import FullyConnected

MARGIN = 0.001
"""Colours reach this far beyond 0..1 (Barron et al. 2021, mip-NeRF)."""

POINTS = 1 << 14
"""Points at a time, our choice: their features stay in a processor's cache."""


class Decoder(nn.Module):
    """Features of a point -> raw density and colour features. Names as published: `net` with a softplus in between."""

    def __init__(self, width: int, hidden: int, rate: float = 1.0) -> None:
        super().__init__()
        layers = FullyConnected(width, hidden, rate), nn.Softplus(), FullyConnected(hidden, 1 + width, rate)
        self.net = nn.Sequential(*layers)

    def matrices(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of both layers as they act."""
        found = []
        for number in (0, 2):
            layer = self.net[number]
            assert isinstance(layer, FullyConnected)
            found.append(
                (layer.weight * (layer.rate / layer.weight.shape[1] ** 0.5), layer.bias * layer.rate)
            )
        return found

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, width) -> raw density (N,), colour features (N, width) in 0..1 (`with_margin` gives the published range)."""
        (w0, b0), (w1, b1) = self.matrices()
        hidden = F.softplus(linear(features, w0, b0))
        # One output by itself: the others are then a whole number of a processor's vectors.
        return torch.mv(hidden, w1[0]) + b1[0], torch.sigmoid(linear(hidden, w1[1:], b1[1:]))


def with_margin(colours: Tensor) -> Tensor:
    """0..1 -> -0.001..1.001."""
    return colours * (1 + 2 * MARGIN) - MARGIN


class PlaneSampler:
    """Mean of the planes' features at points: bilinear, half-pixel centres, zeros outside.

    A point's texels are gathered from one table with the channels together, which costs a processor a third of what
    sampling channel by channel does. Planes over the same two axes are added beforehand (the released networks have two
    over x and z, one of them transposed): the sum of two bilinear readings is the reading of the sum.

    Args:
        planes: (3, C, S, S).
        axes: per plane, the coordinates along its columns and rows.
        side: of the box, in the units of the points.
    """

    def __init__(self, planes: Tensor, axes: Sequence[tuple[int, int]], side: float) -> None:
        merged: dict[tuple[int, int], Tensor] = {}
        for plane, (column, row) in zip(planes, axes, strict=True):
            plane = plane if column < row else plane.mT
            pair = min(column, row), max(column, row)
            merged[pair] = merged[pair] + plane if pair in merged else plane
        self.pairs, self.scale = list(merged), 2.0 / side
        self.size = planes.shape[-1]
        stacked = torch.stack(list(merged.values())) / len(planes)  # (P, C, S, S)
        ring = F.pad(stacked.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # (P, S + 2, S + 2, C): zeros around
        self.table = ring.reshape(-1, planes.shape[1])

    def __call__(self, points: Tensor) -> Tensor:
        """points (N, 3) -> (N, C)."""
        width = self.size + 2
        texels = (
            (points.T.contiguous() * self.scale + 1.0) * self.size + 1.0
        ) / 2  # (3, N): texel k has its centre at k,
        texels = texels.clamp(0.0, self.size + 1.0)  # the ring at 0
        first = texels.detach().floor().clamp_max(self.size)
        part, whole = texels - first, first.long()
        rest = 1.0 - part
        places, weights = [], []
        for number, (column, row) in enumerate(self.pairs):
            corner = (number * width + whole[row]) * width + whole[column]
            places += [corner, corner + 1, corner + width, corner + width + 1]
            weights += [rest[row] * rest[column], rest[row] * part[column]]
            weights += [part[row] * rest[column], part[row] * part[column]]
        gathered: Tensor = _Gather.apply(self.table, torch.stack(places, 1), torch.stack(weights, 1))  # type: ignore[no-untyped-call]
        return gathered


class BentSampler:
    """`PlaneSampler` at points that the first three features of the same planes have moved.

    Our choice, after deformable radiance fields (Park et al. 2021, Nerfies; Bergman et al. 2022, GNARF): where heads differ by how one face
    is bent, the other features keep its lids and lips in one place, and a small network learns them sharply.

    Args:
        planes: (3, 3 + C, S, S).
        axes, side: as `PlaneSampler`.
        bend: units of the points per unit of the first three features.
        fovea: see `magnified`.
    """

    def __init__(
        self, planes: Tensor, axes: Sequence[tuple[int, int]], side: float, bend: float, fovea: Fovea = ()
    ) -> None:
        self.bend, self.fovea, self.side = bend, fovea, side
        self.shifts = PlaneSampler(planes[:, :BEND], axes, side)
        self.features = PlaneSampler(planes[:, BEND:], axes, side)

    def shift(self, points: Tensor) -> Tensor:
        """By how much points (N, 3) are moved (N, 3)."""
        return self.shifts(points) * self.bend

    def __call__(self, points: Tensor) -> Tensor:
        """points (N, 3) -> (N, C)."""
        return self.at(points + self.shift(points))

    def at(self, moved: Tensor) -> Tensor:
        """Features (N, C) at points (N, 3) that have been moved."""
        return self.features(magnified(moved, self.fovea, self.side))


def sampler_of(
    planes: Tensor, axes: Sequence[tuple[int, int]], side: float, bend: float, fovea: Fovea = ()
) -> PlaneSampler | BentSampler:
    """Bent or not: with 0 the planes have no features that move points."""
    return BentSampler(planes, axes, side, bend, fovea) if bend else PlaneSampler(planes, axes, side)


class _Gather(torch.autograd.Function):
    """Weighted sums of a table's rows, with a way back that does not sort the places first (two thirds of torch's own time)."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        """table (T, C), places (N, K) int64, weights (N, K) -> (N, C)."""
        ctx.save_for_backward(table, places, weights)
        return F.embedding_bag(places, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        """(N, C) -> of table and weights."""
        (gradient,), (table, places, weights) = gradients, ctx.saved_tensors
        of_table = of_weights = None
        if ctx.needs_input_grad[0]:
            of_table = scattered(gradient, places, weights, len(table))
        if ctx.needs_input_grad[2]:
            of_weights = products(gradient, table, places)
        return of_table, None, of_weights


def scattered(values: Tensor, places: Tensor, weights: Tensor, count: int) -> Tensor:
    """(count, C): rows of values (N, C), each added at its places (N, K) by its weights (N, K).

    On a processor a transposed sparse product of scipy's, which takes a sixth of torch's own additions by index.
    """
    if values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
        ends = np.arange(0, places.numel() + 1, places.shape[1])
        parts = weights.detach().reshape(-1).numpy(), places.reshape(-1).numpy(), ends
        matrix = csr_matrix(parts, shape=(len(places), count))
        return torch.from_numpy(matrix.T @ values.detach().contiguous().numpy())
    out = values.new_zeros(count, values.shape[1])
    for place, weight in zip(places.T.contiguous(), weights.T, strict=True):
        out.index_add_(0, place, values * weight[:, None])
    return out


def products(values: Tensor, table: Tensor, places: Tensor) -> Tensor:
    """(N, K) products of each row of values (N, C) and the rows of a table (T, C) at its places (N, K)."""
    if values.device.type == "cpu":  # a third of the time of what follows
        count, width = places.shape
        bags = torch.arange(count).repeat_interleave(width)
        found: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            values.contiguous(), table, places.reshape(-1), torch.arange(0, count * width, width), bags, 0, -1
        )
        return found.view(count, width)
    return torch.stack([(values * table.index_select(0, place)).sum(1) for place in places.T.contiguous()], 1)
