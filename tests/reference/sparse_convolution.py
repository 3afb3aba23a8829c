# SPDX-License-Identifier: GPL-3.0-or-later
"""Sparse 3D convolutions by the letter: dictionaries from coordinate to feature (torchsparse 1.4, read off its rules)."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

Sparse = dict[tuple[int, int, int], Tensor]


def offsets() -> list[tuple[int, int, int]]:
    """Row k of a kernel: x fastest, z slowest, each -1..1."""
    return [(dx, dy, dz) for dz, dy, dx in product((-1, 0, 1), repeat=3)]


def add(a: tuple[int, int, int], b: tuple[int, int, int], times: int) -> tuple[int, int, int]:
    return a[0] + times * b[0], a[1] + times * b[1], a[2] + times * b[2]


def convolve(x: Sparse, kernel: Tensor, sites: list[tuple[int, int, int]], stride: int) -> Sparse:
    """out[q] = sum_k in[q + stride off_k] W_k at the given sites."""
    out = {}
    for site in sites:
        total = torch.zeros(kernel.shape[2])
        for offset, weight in zip(offsets(), kernel, strict=True):
            found = x.get(add(site, offset, stride))
            if found is not None:
                total = total + found @ weight
        out[site] = total
    return out


def coarse_sites(fine: list[tuple[int, int, int]], stride: int) -> list[tuple[int, int, int]]:
    """Every coordinate divisible by 2 stride within one stride of an active one, not below the lowest active one."""
    low = [min(site[axis] for site in fine) for axis in range(3)]
    found = {
        candidate
        for site in fine
        for candidate in (add(site, offset, stride) for offset in offsets())
        if all(c % (2 * stride) == 0 and c >= low[axis] for axis, c in enumerate(candidate))
    }
    return sorted(found)


def transposed(x: Sparse, kernel: Tensor, sites: list[tuple[int, int, int]], stride: int) -> Sparse:
    """out[p] = sum over coarse q with p = q + stride off_k of in[q] W_k."""
    out = {site: torch.zeros(kernel.shape[2]) for site in sites}
    for site, value in x.items():
        for offset, weight in zip(offsets(), kernel, strict=True):
            target = add(site, offset, stride)
            if target in out:
                out[target] = out[target] + value @ weight
    return out
