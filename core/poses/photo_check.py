# SPDX-License-Identifier: GPL-3.0-or-later
"""Photo check: do the pictures themselves agree with the cameras?

A wrong model made of repeated textures reprojects to a fraction of a pixel, so its own points cannot convict it. But
neighbouring pictures, swept by planes through these cameras, then match nowhere with one consistent depth
(spec-pose C.3: share 0.3 to 0.5 for right models, 0.01 for wrong ones).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class CheckSettings:
    """Small on purpose: a misplaced camera is off by many pixels even here."""

    planes: int = 40
    """Depth hypotheses, evenly spaced in inverse depth."""
    neighbours: int = 4
    window: int = 5
    """Side of the matching window, pixels."""
    min_score: float = 0.5
    """ZNCC a pixel must reach."""
    tolerance: float = 0.015
    """Relative difference of depths that still agree; at least 0.75 of a plane's step."""
    min_contrast: float = 0.012
    """Standard deviation inside the window (0..1) from which a pixel can be judged at all."""


@dataclass(frozen=True)
class CheckView:
    """One small pinhole picture."""

    grey: NDArray[np.float32]
    """(H, W) 0..1."""
    matrix: NDArray[np.float64]
    """K (3, 3) in pixels of `grey`."""
    pose: NDArray[np.float64]
    """(3, 4) world-to-camera."""
    near: float
    """Range of depths to sweep, from the sparse points the view sees."""
    far: float
    neighbours: list[int]
    """Other views that look at the same part, best first."""
    mask: NDArray[np.float32] | None = None
    """(H, W); where given, only the object is judged."""


def check_photos(
    views: list[CheckView], settings: CheckSettings | None = None, check: Callable[[], None] = lambda: None
) -> NDArray[np.float64]:
    """Share of each picture's textured pixels that have a depth on which the picture and two others agree.

    Args:
        views: small pictures with the cameras to be judged.
        settings: see `CheckSettings`.
        check: called once a picture; raises when the artist cancels.

    Returns:
        (N,) float64 0..1; NaN for a view without neighbours or with too little texture to be judged (< 2 % of it).
    """
    settings = settings or CheckSettings()
    if not views:
        return np.zeros(0)
    with torch.no_grad():
        swept = []
        for view in views:
            check()
            swept.append(_sweep(view, views, settings))
        depths, judged = zip(*swept, strict=True)
        shares = [_agreement(i, views, list(depths), judged[i], settings) for i in range(len(views))]
    return np.array(shares)


def _sweep(view: CheckView, views: list[CheckView], settings: CheckSettings) -> tuple[Tensor, Tensor]:
    """Depth (H, W), 0 where no plane matches well, and the pixels (H, W) that have texture."""
    reference = torch.from_numpy(view.grey)[None, None]
    mean, variance = _moments(reference, settings.window)
    judged = variance[0, 0] > settings.min_contrast**2
    if view.mask is not None:
        judged &= torch.from_numpy(view.mask) > 0.5
    inverse = torch.linspace(1 / view.far, 1 / view.near, settings.planes, dtype=torch.float64)
    scores = []
    for number in view.neighbours[: settings.neighbours]:
        other = views[number]
        grid = _warp_grid(view, other, inverse)
        warped = F.grid_sample(
            torch.from_numpy(other.grey)[None, None].expand(len(grid), -1, -1, -1), grid, align_corners=False
        )
        other_mean, other_variance = _moments(warped, settings.window)
        product = _box_mean(warped * reference, settings.window)
        score = (product - mean * other_mean) / torch.sqrt(variance * other_variance + 1e-8)
        outside = (grid.abs() > 1).any(-1)
        scores.append(score[:, 0].masked_fill(outside, -1.0))
    if not scores:
        return torch.zeros_like(reference[0, 0]), judged
    # The better half of the neighbours: the others may not see the spot.
    best = torch.stack(scores).topk(max(1, len(scores) // 2), 0).values.mean(0)
    value, plane = best.max(0)
    depth = 1 / _between_planes(best, plane, inverse)
    return torch.where(value > settings.min_score, depth, torch.zeros_like(depth)).float(), judged


def _moments(picture: Tensor, window: int) -> tuple[Tensor, Tensor]:
    mean = _box_mean(picture, window)
    return mean, (_box_mean(picture * picture, window) - mean * mean).clamp(min=0)


def _box_mean(picture: Tensor, window: int) -> Tensor:
    return F.avg_pool2d(picture, window, 1, window // 2, count_include_pad=False)


def _between_planes(scores: Tensor, plane: Tensor, inverse: Tensor) -> Tensor:
    """Vertex of the parabola through the best plane and its two neighbours, as inverse depth (H, W)."""
    inner = plane.clamp(1, len(scores) - 2)
    low, middle, high = (scores.gather(0, (inner + step)[None])[0] for step in (-1, 0, 1))
    bend = low - 2 * middle + high
    shift = torch.where(bend < -1e-6, 0.5 * (low - high) / bend.clamp(max=-1e-6), torch.zeros_like(bend))
    position = torch.where(plane == inner, inner + shift.clamp(-1, 1), plane.to(shift))
    return inverse[0] + position.double() * (inverse[1] - inverse[0])


def _warp_grid(view: CheckView, other: CheckView, inverse: Tensor) -> Tensor:
    """(D, H, W, 2) where each pixel of `view` falls in `other`, in grid_sample's -1..1, one layer per inverse depth."""
    height, width = view.grey.shape
    rotation = other.pose[:, :3] @ view.pose[:, :3].T
    shift = other.pose[:, 3] - rotation @ view.pose[:, 3]
    turn = torch.from_numpy(other.matrix @ rotation @ np.linalg.inv(view.matrix))
    move = torch.from_numpy(other.matrix @ shift)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1).double() @ turn.T  # (H, W, 3)
    points = (rays + inverse[:, None, None, None] * move).float()  # up to the depth as a factor
    behind = points[..., 2:] <= 1e-6
    pixels = points[..., :2] / points[..., 2:].clamp(min=1e-6)
    size = torch.tensor([other.grey.shape[1], other.grey.shape[0]], dtype=torch.float32)
    return (pixels / size * 2 - 1).masked_fill(behind, 2.0)


def _agreement(
    number: int, views: list[CheckView], depths: list[Tensor], judged: Tensor, settings: CheckSettings
) -> float:
    """Share of the judged pixels whose point lies on the depth maps of two neighbours (of one, if it has only one)."""
    view = views[number]
    neighbours = view.neighbours[: settings.neighbours]
    if not neighbours or float(judged.float().mean()) < 0.02:
        return float("nan")
    depth = depths[number].double()
    y, x = torch.meshgrid(
        torch.arange(depth.shape[0]) + 0.5, torch.arange(depth.shape[1]) + 0.5, indexing="ij"
    )
    rays = (
        torch.stack([x, y, torch.ones_like(x)], -1).double() @ torch.from_numpy(np.linalg.inv(view.matrix)).T
    )
    pose = torch.from_numpy(view.pose)
    world = (rays * depth[..., None] - pose[:, 3]) @ pose[:, :3]  # R^T (x - t)
    votes = torch.zeros_like(depth)
    for index in neighbours:
        other = views[index]
        other_pose = torch.from_numpy(other.pose)
        local = world @ other_pose[:, :3].T + other_pose[:, 3]
        pixels = local @ torch.from_numpy(other.matrix).T
        pixels = pixels[..., :2] / pixels[..., 2:].clamp(min=1e-9)
        size = torch.tensor([other.grey.shape[1], other.grey.shape[0]], dtype=torch.float64)
        grid = (pixels / size * 2 - 1)[None].float()
        there = F.grid_sample(depths[index][None, None], grid, mode="nearest", align_corners=False)[
            0, 0
        ].double()
        step = abs(1 / other.near - 1 / other.far) / (settings.planes - 1) * there
        allowed = torch.clamp(0.75 * step, min=settings.tolerance)
        votes += (there > 0) & (local[..., 2] > 0) & ((there - local[..., 2]).abs() < allowed * there)
    passed = (depth > 0) & judged & (votes >= min(2, len(neighbours)))
    return float(passed.sum() / judged.sum())
