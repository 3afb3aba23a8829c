# SPDX-License-Identifier: GPL-3.0-or-later
"""How the reference is laid over the original before they are blended (3D-aware blending, section 3.2, and our own way).

The paper registers the points of both parts, which moves a large nose until it is a small one. Where planes bend (our generator)
more is known: heads are one head, bent, so every point of one has its counterpart on another. Then hair takes the shape of the
head that is to wear it, and any other part keeps its shape and size and goes to where its surroundings lie on the original.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.eg3d.generator import Eg3d
from ..models.eg3d.planes import BentSampler
from ..models.eg3d.rays import camera_rays
from .blend import Seen, seen
from .details import surface_points
from .masks import for_rays, mask_points, ring
from .registration import limited, register

ROUNDS = 12
"""Of the search for a counterpart. On ten pairs of inverted heads 0.05 mm of the rims' points were left on average then, and 4 mm at the worst,
where bends fold."""
RIM = 24
"""The picture's side over this is the width of the surroundings that a part moves with."""


@dataclass(frozen=True)
class Placement:
    """Where the reference's head stands and what sees it."""

    label: Tensor
    """(1, 25) camera."""
    warp: Tensor | None = None
    """(4, 4) that moves it."""
    bent_as: Tensor | None = None
    """(1, rows, w_width) of the head whose shape it takes."""

    def seen(self, network: Eg3d, ws: Tensor, resolution: int | None = None) -> Seen:
        """A head (1, rows, w_width) that stands there (`blend.seen`)."""
        return seen(network, ws, self.label, self.warp, resolution, self.bent_as)

    def back(self, network: Eg3d, ws: Tensor) -> Callable[[Tensor], Tensor]:
        """Points (N, 3) of the head that stands there -> where they lie on the head as it is."""
        if self.bent_as is not None:
            shapes = self.bent_as, ws
            return lambda points: counterparts(network, shapes, points)
        if self.warp is not None:
            warp, inverse = self.warp, torch.linalg.inv(self.warp[:3, :3])
            return lambda points: (points - warp[:3, 3]) @ inverse.T
        return lambda points: points


def fitted(
    network: Eg3d, original: Tensor, reference: Tensor, label: Tensor, mask: Tensor, worn: bool
) -> Placement:
    """The reference's part where it belongs on the original; by the camera alone where planes do not bend.

    Args:
        network: the generator.
        original: latent (1, rows, w_width).
        reference: likewise.
        label: (1, 25) the original's camera.
        mask: (1, 1, P, P) the region in its picture; only its rim counts.
        worn: the part follows the shape of the head below it (hair); else it keeps its own.
    """
    if not network.config.bend:
        return Placement(label)
    if worn:
        return Placement(label, bent_as=original)
    points = rim_points(network, original, label, mask)
    if not len(points):
        return Placement(label)
    warp = torch.eye(4, device=points.device)
    warp[:3, 3] = (points - counterparts(network, (original, reference), points)).mean(0)
    return Placement(label, warp)


def counterparts(network: Eg3d, heads: tuple[Tensor, Tensor], points: Tensor) -> Tensor:
    """Where points (N, 3) of the first head's space lie in the second's (N, 3): both are moved to the same place of the unbent head.

    Args:
        network: one whose planes bend.
        heads: latents (1, rows, w_width).
        points: of the first head.
    """
    with torch.no_grad():
        first, second = (network.sampler(network.planes(ws)[0]) for ws in heads)
        assert isinstance(first, BentSampler) and isinstance(second, BentSampler)
        unbent = points + first.shift(points)
        found = unbent - second.shift(unbent)
        for _ in range(ROUNDS):
            found = unbent - second.shift(found)
    return found


def rim_points(network: Eg3d, ws: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """(N, 3) surface points of a head in a band around a region of its picture (1, 1, P, P)."""
    rendered, side = seen(network, ws, label).rendered, mask.shape[-1]
    cover = torch.nn.functional.interpolate(rendered.opacity, size=(side, side), mode="bilinear")
    return surface_points(rendered, label, side)[(rim(mask) & (cover > 0.95)).flatten()]


def rim(mask: Tensor) -> Tensor:
    """(1, 1, P, P) bool: the band around a region (1, 1, P, P)."""
    band = ring(mask[0, 0].cpu().numpy() > 0.5, max(1, mask.shape[-1] // RIM))
    return torch.from_numpy(band)[None, None].to(mask.device)


def part_warp(
    network: Eg3d, original: Tensor, reference: Tensor, label: Tensor, masks: tuple[Tensor, Tensor]
) -> Tensor | None:
    """The scale and translation (4, 4) that lay the reference's part over the original's; None where they cannot be found.

    Depth points of both parts are registered (`registration`); the generator's frame is theirs.

    Args:
        network: the generator.
        original: latent (1, rows, w_width).
        reference: likewise.
        label: (1, 25) the original's camera, from which both are seen.
        masks: the part in the original's and in the aligned reference's picture, (1, 1, P, P).
    """
    points = []
    for ws, mask in zip((original, reference), masks, strict=True):
        rendered = seen(network, ws, label).rendered
        side = rendered.depth.shape[-1]
        origins, directions = camera_rays(label, side)
        rays = for_rays(mask, side)[0]
        points.append(mask_points(origins[0], directions[0], rendered.depth[0], rendered.opacity[0], rays))
    try:
        matrix = limited(register(points[1], points[0])[0])
    except ValueError:
        return None
    return torch.from_numpy(matrix).float().to(label.device)
