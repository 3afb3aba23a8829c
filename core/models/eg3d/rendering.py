# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the tri-planes: features, depth and opacity along the rays of a camera, a block of rays at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .configuration import RenderingConfig
from .planes import MARGIN
from .rays import Draws, camera_rays, coarse_depths, importance_depths, interval_weights

Query = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points (N, 3) -> raw density (N,) and features (N, C) in 0..1."""

BLOCK = 1 << 15
"""Coarse samples at a time on a processor; on a graphics card `_BLOCK_ELSEWHERE`."""
_BLOCK_ELSEWHERE = 1 << 20


@dataclass(frozen=True)
class Rendered:
    """What the rays of one or several cameras gather."""

    features: Tensor
    """(B, C, R, R), about -1..1; the first three channels are the picture's colours."""
    depth: Tensor
    """(B, 1, R, R), distance from the camera's centre; at the far end of the samples where nothing is."""
    opacity: Tensor
    """(B, 1, R, R), 0..1."""
    sigma: Tensor
    """(B, D, R, R), raw density at the coarse samples: what density blending compares (3D-aware blending, section 3.3)."""

    @property
    def image(self) -> Tensor:
        """(B, 3, R, R) colours, about -1..1."""
        return self.features[:, :3]


def render(
    queries: list[Query],
    labels: Tensor,
    resolution: int,
    config: RenderingConfig,
    draws: Draws | None = None,
    warp: Tensor | None = None,
) -> Rendered:
    """Render every camera's field.

    Args:
        queries: one field per camera.
        labels: (B, 25).
        resolution: pixels along each side.
        config: where samples lie, what is behind.
        draws: random numbers; None: repeatable.
        warp: (4, 4) affine W; the field is asked at A^-1 (p - t), so that what is seen is moved by W.
    """
    draws = draws or Draws()
    origins, directions = camera_rays(labels, resolution)
    parts = []
    for item, query in enumerate(queries):
        if warp is not None:
            query = warped(query, warp)
        count = BLOCK if labels.device.type == "cpu" else _BLOCK_ELSEWHERE
        size = max(1, count // config.depth_resolution)
        depths = coarse_depths(
            config, origins[item], directions[item], None if draws.jitter is None else draws.jitter[item]
        )
        blocks = [
            _march(
                query, origins[item, i : i + size], directions[item, i : i + size], depths[i : i + size],
                _quantiles(config, draws, item, depths)[i : i + size], config,
            )
            for i in range(0, len(depths), size)
        ]  # fmt: skip
        parts.append([torch.cat(values) for values in zip(*blocks, strict=True)])
    features, depth, opacity, sigma, ends = (torch.stack(values) for values in zip(*parts, strict=True))
    # A ray on which nothing lies has depth 0 / 0, which counts as infinitely far.
    depth = depth.nan_to_num(nan=float("inf")).clamp(ends.min(), ends.max())
    return Rendered(*(_picture(values, resolution) for values in (features, depth, opacity, sigma)))


def warped(query: Query, warp: Tensor) -> Query:
    """The field moved by an affine map (4, 4)."""
    inverse = torch.linalg.inv(warp[:3, :3].double()).to(warp)
    return lambda points: query((points - warp[:3, 3]) @ inverse.T)


def _march(
    query: Query,
    origins: Tensor,
    directions: Tensor,
    depths: Tensor,
    quantiles: Tensor,
    config: RenderingConfig,
) -> tuple[Tensor, ...]:
    """Rays (N, 3), coarse depths (N, D), quantiles (N, F) -> features (N, C), depth (N, 1), opacity (N, 1),
    raw densities (N, D), least and greatest depth (N, 2).
    """
    sigma, features = _ask(query, origins, directions, depths)
    coarse, found = sigma, [features]
    if quantiles.shape[1]:
        fine = importance_depths(depths, interval_weights(sigma.detach(), depths), quantiles)
        more = _ask(query, origins, directions, fine)
        depths, sigma = torch.cat([depths, fine], 1), torch.cat([sigma, more[0]], 1)
        found.append(more[1])
    ordered, order = depths.sort(1)
    weights = interval_weights(sigma.gather(1, order), ordered)  # (N, S - 1)
    opacity = weights.sum(1, keepdim=True)
    middle = (ordered[:, 1:] + ordered[:, :-1]) / 2
    depth = (weights * middle).sum(1, keepdim=True) / opacity
    # A sample's features count half in either of its intervals; the weights go back to the samples' places, which is
    # cheaper than sorting the features.
    half = torch.nn.functional.pad(weights, (1, 1)) / 2
    share = torch.zeros_like(depths).scatter(1, order, half[:, 1:] + half[:, :-1])
    parts = share.split([f.shape[1] for f in found], 1)
    summed = sum(
        (w[:, None] @ f for w, f in zip(parts, found, strict=True)), torch.zeros((), device=depths.device)
    )
    # The margin of the colours is the same for every sample: it comes after the sum.
    colour = summed[:, 0] * (1 + 2 * MARGIN) - MARGIN * opacity  # (N, C)
    if config.white_back:
        colour = colour + 1.0 - opacity
    return 2.0 * colour - 1.0, depth, opacity, coarse, torch.stack([ordered[:, 0], ordered[:, -1]], 1)


def _ask(query: Query, origins: Tensor, directions: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Raw density (N, S) and features (N, S, C) at the samples."""
    points = origins[:, None] + depths[..., None] * directions[:, None]
    sigma, features = query(points.flatten(0, 1))
    return sigma.view(depths.shape), features.unflatten(0, depths.shape)


def _quantiles(config: RenderingConfig, draws: Draws, item: int, depths: Tensor) -> Tensor:
    n = config.depth_resolution_importance
    if draws.quantiles is not None:
        return draws.quantiles.reshape(-1, len(depths), n)[item]
    return torch.linspace(0.0, 1.0, n, device=depths.device).expand(len(depths), n)


def _picture(values: Tensor, resolution: int) -> Tensor:
    """(B, R^2, C) -> (B, C, R, R)."""
    return values.mT.unflatten(2, (resolution, resolution))
