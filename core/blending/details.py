# SPDX-License-Identifier: GPL-3.0-or-later
"""What the generator cannot draw of the photos, carried over to the blend: our own addition to 3D-aware blending.

A tuned generator explains a photo up to a residual: pores, single hairs, what its size does not hold. Outside the region the
residual of the original is added again where it was; inside, that of the reference, moved by depth: each pixel of the edit is
a point of the reference's head, which its own photo shows somewhere else, or does not show. So a blend is as sharp as its photos.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.eg3d.rays import camera_rays
from ..models.eg3d.rendering import Rendered

HIDDEN = 0.03
"""Of the generator's units (11 mm): a point farther behind what the reference's camera sees is hidden there."""
ALIKE, AROUND = 0.25, 28
"""Of colours -1..1: a residual counts while the blend looks like what it is a residual of, within this, in windows of the picture's side over
`AROUND`. A soft generator's hair bleeds into the forehead; the correction of that drew a bright line where the hair was taken away."""
BORDER = 0.02
"""Share of the picture next to its border, or to the head's outline, where the photo is not trusted."""


def moved_by_depth(
    residual: Tensor,
    source: Rendered,
    source_label: Tensor,
    target: Rendered,
    target_label: Tensor,
    back: Callable[[Tensor], Tensor] = lambda points: points,
) -> Tensor:
    """A picture of a head as another camera sees it, as far as the first camera saw it; 0 elsewhere.

    Args:
        residual: (1, 3, P, P) over the head as `source_label` sees it.
        source: rays of that head from there.
        source_label: (1, 25).
        target: rays of the same head from `target_label`, where it may stand elsewhere.
        target_label: (1, 25).
        back: points (N, 3) of the head that stands there -> where they lie on the head that the first camera sees.

    Returns:
        (1, 3, P, P), faded where it is hardly seen.
    """
    side = residual.shape[-1]
    points = back(surface_points(target, target_label, side))
    place, far = projected(points, source_label)
    grid = (place * 2 - 1).view(1, side, side, 2)
    seen_depth, cover = (
        F.grid_sample(plane, grid, padding_mode="border", align_corners=False).flatten()
        for plane in (source.depth, eroded(source.opacity))
    )
    inside = ((place - 0.5).abs().amax(1) - 0.5 + BORDER).clamp(0, BORDER) / BORDER
    trust = (1 - inside) * ((HIDDEN - (far - seen_depth)) / HIDDEN).clamp(0, 1) * (cover > 0.9)
    here = F.interpolate(eroded(target.opacity), size=(side, side), mode="bilinear")
    weight = F.avg_pool2d(trust.view(1, 1, side, side) * (here > 0.9), 5, 1, 2, count_include_pad=False)
    found = F.grid_sample(residual, grid, padding_mode="border", align_corners=False)
    return found * weight


@dataclass(frozen=True)
class Details:
    """What a photo has that its generator's picture has not, as the blend's camera sees it."""

    residual: Tensor
    """(1, 3, P, P) photo less picture."""
    drawn: Tensor
    """(1, 3, P, P) that picture, -1..1."""


def with_details(after: Tensor, mask: Tensor, original: Details, reference: Details) -> Tensor:
    """The blend's picture with both photos' residuals, each as far as the blend looks like what its generator drew.

    Args:
        after: (1, 3, P, P) the blended head, -1..1.
        mask: (1, 1, P, P) the region.
        original: counts outside the region.
        reference: inside.
    """
    soft = F.avg_pool2d(mask, 5, 1, 2, count_include_pad=False)
    added = [part.residual * alikeness(after, part.drawn) for part in (original, reference)]
    return (after + (1 - soft) * added[0] + soft * added[1]).clamp(-1, 1)


def alikeness(a: Tensor, b: Tensor) -> Tensor:
    """(1, 1, P, P) 0..1: how alike pictures (1, 3, P, P) are at the least alike place around."""
    apart = F.avg_pool2d((a - b).abs().mean(1, keepdim=True), 3, 1, 1, count_include_pad=False)
    reach = a.shape[-1] // AROUND // 2
    worst = F.max_pool2d(apart, 2 * reach + 1, 1, reach)
    return F.avg_pool2d(torch.exp(-((worst / ALIKE) ** 2)), 3, 1, 1, count_include_pad=False)


def surface_points(rendered: Rendered, label: Tensor, side: int) -> Tensor:
    """(side^2, 3) where rays of a finer picture meet what was rendered."""
    depth = F.interpolate(rendered.depth, size=(side, side), mode="bilinear").flatten()
    origins, directions = camera_rays(label, side)
    return origins[0] + directions[0] * depth[:, None]


def projected(points: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Points (N, 3) -> place (N, 2) in 0..1 of the label's picture, and distance (N,) from its camera."""
    pose, k = label[0, :16].view(4, 4), label[0, 16:].view(3, 3)
    offset = points - pose[:3, 3]
    local = offset @ pose[:3, :3]
    scaled = local[:, :2] / local[:, 2:].clamp_min(1e-6)
    return torch.stack([scaled[:, 0] * k[0, 0] + k[0, 2], scaled[:, 1] * k[1, 1] + k[1, 2]], 1), offset.norm(
        dim=1
    )


def eroded(opacity: Tensor) -> Tensor:
    """(1, 1, R, R) without its rim, where depth lies between head and background."""
    return -F.max_pool2d(-opacity, 3, 1, 1)
