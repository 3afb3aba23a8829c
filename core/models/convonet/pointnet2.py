# SPDX-License-Identifier: GPL-3.0-or-later
"""PointNet++ (Qi et al. 2017) as the `pointconv` baseline of ConvONet uses it: features stay on the points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..parts.key_shapes import Shapes, count


@dataclass(frozen=True)
class Sampling:
    """How many centres a set abstraction keeps and how it gathers their neighbours."""

    centres: int
    radius: float
    neighbours: int


SAMPLINGS = (Sampling(512, 0.2, 32), Sampling(128, 0.4, 64))
"""Of the published encoder; a third level takes everything."""


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(B, N, 3), (B, M, 3) -> (B, N, M) by |a|^2 + |b|^2 - 2 a b, the published order of operations."""
    return -2.0 * a @ b.mT + a.square().sum(-1)[..., None] + b.square().sum(-1)[:, None]


def farthest_points(points: Tensor, number: int, start: int = 0) -> Tensor:
    """(B, N, 3) -> (B, number) indices, each the farthest from those before; the published start is random."""
    picked = []
    distance = torch.full(points.shape[:2], 1e10, dtype=points.dtype, device=points.device)
    index = torch.full((len(points),), start, dtype=torch.long, device=points.device)
    rows = torch.arange(len(points), device=points.device)
    for _ in range(number):
        picked.append(index)
        distance = torch.minimum(distance, (points - points[rows, index][:, None]).square().sum(-1))
        index = distance.argmax(-1)
    return torch.stack(picked, 1)


def ball_query(points: Tensor, centres: Tensor, radius: float, number: int) -> Tensor:
    """(B, N, 3), (B, S, 3) -> (B, S, number): the first points by index within the radius, the first one repeated."""
    n = points.shape[1]
    index = torch.arange(n, device=points.device).expand(*centres.shape[:2], n)
    index = (
        torch.where(squared_distances(centres, points) > radius**2, n, index).sort(-1).values[..., :number]
    )
    return torch.where(index == n, index[..., :1], index)


def take(values: Tensor, index: Tensor) -> Tensor:
    """values (B, N, C), index (B, ...) -> (B, ..., C)."""
    flat = index.flatten(1)
    return values.gather(1, flat[..., None].expand(-1, -1, values.shape[-1])).unflatten(1, index.shape[1:])


class SetAbstraction(nn.Module):
    """Centres with the maximum over their neighbourhood of a shared perceptron."""

    def __init__(self, size_in: int, widths: Sequence[int], sampling: Sampling | None) -> None:
        super().__init__()
        sizes = [size_in, *widths]
        self.sampling = sampling
        self.mlp_convs = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(sizes, sizes[1:], strict=False))
        self.mlp_bns = nn.ModuleList(nn.BatchNorm2d(b) for b in widths)

    def forward(self, points: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """points (B, N, 3), features (B, N, C) -> centres (B, S, 3), features (B, S, C')."""
        if self.sampling is None:
            centres = points.new_zeros(len(points), 1, 3)
            grouped = torch.cat([points, features], -1)[:, None]  # (B, 1, N, 3 + C)
        else:
            centres = take(points, farthest_points(points, self.sampling.centres))
            index = ball_query(points, centres, self.sampling.radius, self.sampling.neighbours)
            grouped = torch.cat([take(points, index) - centres[:, :, None], take(features, index)], -1)
        x = grouped.permute(0, 3, 2, 1)  # (B, 3 + C, K, S)
        for conv, bn in zip(self.mlp_convs, self.mlp_bns, strict=True):
            x = F.relu(bn(conv(x)))
        return centres, x.amax(2).mT


class FeaturePropagation(nn.Module):
    """Coarse features back to the finer points: inverse distance weights over three neighbours."""

    def __init__(self, size_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [size_in, *widths]
        self.mlp_convs = nn.ModuleList(nn.Conv1d(a, b, 1) for a, b in zip(sizes, sizes[1:], strict=False))
        self.mlp_bns = nn.ModuleList(nn.BatchNorm1d(b) for b in widths)

    def forward(self, fine: Tensor, coarse: Tensor, own: Tensor | None, features: Tensor) -> Tensor:
        """fine (B, N, 3), coarse (B, S, 3), own (B, N, C1) or None, features (B, S, C2) -> (B, N, C')."""
        if coarse.shape[1] == 1:
            spread = features.expand(-1, fine.shape[1], -1)
        else:
            distance, index = squared_distances(fine, coarse).sort(-1)
            weight = 1.0 / (distance[..., :3] + 1e-8)
            weight = weight / weight.sum(-1, keepdim=True)
            spread = (take(features, index[..., :3]) * weight[..., None]).sum(2)
        x = (spread if own is None else torch.cat([own, spread], -1)).mT
        for conv, bn in zip(self.mlp_convs, self.mlp_bns, strict=True):
            x = F.relu(bn(conv(x)))
        return x.mT


class PointNetPlusPlus(nn.Module):
    """Three set abstractions down, three feature propagations up.

    Args:
        shapes: key shapes of the encoder, which name every width.
        samplings: of the first two levels.
    """

    def __init__(self, shapes: Shapes, samplings: tuple[Sampling, Sampling] = SAMPLINGS) -> None:
        super().__init__()

        def widths(name: str) -> tuple[int, list[int]]:
            keys = [
                f"{name}.mlp_convs.{i}.weight" for i in range(count(shapes, name + ".mlp_convs.{}.weight"))
            ]
            return shapes[keys[0]][1], [shapes[key][0] for key in keys]

        for i, sampling in enumerate((*samplings, None), 1):
            self.add_module(f"sa{i}", SetAbstraction(*widths(f"sa{i}"), sampling))
        for i in (3, 2, 1):
            self.add_module(f"fp{i}", FeaturePropagation(*widths(f"fp{i}")))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """points (B, N, 3) -> the points and their features (B, N, C)."""
        p1, f1 = self.sa1(points, points)
        p2, f2 = self.sa2(p1, f1)
        p3, f3 = self.sa3(p2, f2)
        f2 = self.fp3(p2, p3, f2, f3)
        f1 = self.fp2(p1, p2, f1, f2)
        return points, self.fp1(points, p1, None, f1)


def sample_points(points: Tensor, features: Tensor, queries: Tensor, variance: float = 0.2) -> Tensor:
    """Gaussian weights over all points: w = exp(-(|q - p| + 1e-5)^2 / variance^2), normalised.

    Args:
        points, features: (B, N, 3) and (B, N, C).
        queries: (B, T, 3).
    """
    distance = (queries[:, :, None] - points[:, None]).norm(dim=-1) + 1e-5  # (B, T, N)
    weight = torch.exp(-distance.square() / variance**2)
    return (weight / weight.sum(-1, keepdim=True)) @ features
