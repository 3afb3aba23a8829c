# SPDX-License-Identifier: GPL-3.0-or-later
"""The photos as training sees them: square canvases for the encoder, and a pyramid of pixels for the rays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WHITE = 1.0
"""What stands behind cut-out objects, in canvases and in renders beside them."""


@dataclass(frozen=True)
class Pictures:
    """M photos of one camera, padded to squares whose side is the long side of the photo.

    Args:
        canvas: (M, 3, S, S) float32 -1..1.
        levels: side in pixels -> (M, side * side, 5) float32: sRGB times alpha, alpha, 1 where the photo reaches.
        focal: of the lens, in sides of the square.
        masked: whether alpha tells an object from its background.
    """

    canvas: Tensor
    levels: dict[int, Tensor]
    focal: float
    masked: bool

    def __len__(self) -> int:
        return len(self.canvas)

    @classmethod
    def of(cls, pixels: list[Tensor], canvas: int, focal: float, masked: bool) -> Pictures:
        """pixels: per photo (4, H, W), straight sRGB and alpha; focal in long sides."""
        full = torch.stack([_square(picture) for picture in pixels])  # (M, 5, L, L)
        sides, side = [full.shape[-1]], 16
        while side < full.shape[-1]:
            sides.append(side)
            side *= 2
        levels = {}
        for size in sorted(sides):
            small = F.interpolate(full, size=(size, size), mode="area")
            levels[size] = small.flatten(2).transpose(1, 2).contiguous()
        small = F.interpolate(full, size=(canvas, canvas), mode="area")
        rgb = small[:, :3] + WHITE * (1 - small[:, 3:4])
        return cls(2 * rgb - 1, levels, focal, masked)

    def level(self, side: int) -> int:
        """The finest level of at most `side` pixels."""
        return max((size for size in self.levels if size <= side), default=min(self.levels))


def _square(picture: Tensor) -> Tensor:
    """(4, H, W) straight -> (5, L, L) premultiplied, with the photo's own area as the last plane, padded with nothing."""
    height, width = picture.shape[1:]
    alpha = picture[3:]
    planes = torch.cat([picture[:3] * alpha, alpha, torch.ones_like(alpha)])
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    return F.pad(planes, (left, side - width - left, top, side - height - top))


def local_rays(side: int, index: Tensor, focal: Tensor | float) -> Tensor:
    """Pixels (..., ) of a square of `side` -> unit directions (..., 3) in the camera's frame, OpenCV axes."""
    x = ((index % side + 0.5) / side - 0.5) / focal
    y = ((torch.div(index, side, rounding_mode="floor") + 0.5) / side - 0.5) / focal
    return F.normalize(torch.stack([x, y, torch.ones_like(x)], -1), dim=-1)
