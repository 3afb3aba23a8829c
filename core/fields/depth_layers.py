# SPDX-License-Identifier: GPL-3.0-or-later
"""A body between two depth maps of one picture: where its rays enter the object and where they leave it for good.

After Shade et al. 1998 ("Layered depth images") with two layers, made a field: a point is inside as far as it lies behind
the first, before the last and within the outline. So whatever the picture shows is solid, however thin.

Frame: x to the picture's right, y away from the camera, z up; a point shows in the maps' window at (x, z) / (1 + nearness y),
which is -1..1 from edge to edge.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .field import Kind

DEPTH = 1.2
"""Half the depth of the field's box; its other sides are 2 long."""
SIDES_FROM = 0.5
"""Share of the half thickness over which a layer's colour goes over into that of the sides."""
STEEPNESS = 12.0
"""density = exp(STEEPNESS times the distance inside): one at the surface, e every twelfth of a half side."""


class DepthLayers:
    """Density and colour between two layers (`fields.field.Field`).

    Args:
        layers: (2, h, w) float32, y of the first and the last surface; the second behind the first.
        outline: (H, W) float32, signed distance to the outline in half sides of the window, positive inside.
        colours: (3, 3, H', W') float32 sRGB 0..1: of the first and the last surface, and of the sides between them, smooth so
            that the outline's single pixels do not become stripes there.
        nearness: half side of the window over the camera's distance from the origin; the camera stands at (0, -1/nearness, 0).
        level: density of the surface.

    Rows of all maps run down the picture.
    """

    kind: Kind = "density"
    has_geometry = True
    has_appearance = True
    channels = 3

    def __init__(
        self, layers: Tensor, outline: Tensor, colours: Tensor, nearness: float, level: float = 1.0
    ) -> None:
        self.layers, self.outline, self.colours = layers, outline, colours
        self.nearness, self.level = nearness, level
        half = torch.tensor([1.0, DEPTH, 1.0], device=layers.device)
        self.box = torch.stack([-half, half])

    def _looked_up(self, maps: Tensor, points: Tensor) -> Tensor:
        """maps (C, h, w), points (N, 3) -> (C, N), bilinear, half-pixel centres, the border's value beyond it."""
        scale = 1 + self.nearness * points[:, 1]
        grid = torch.stack([points[:, 0] / scale, -points[:, 2] / scale], -1)[None, None]
        return F.grid_sample(maps[None], grid, align_corners=False, padding_mode="border")[0, :, 0]

    def inside(self, points: Tensor) -> Tensor:
        """points (N, 3) float32 -> (N,): roughly the distance to the surface in half sides, positive inside."""
        first, last = self._looked_up(self.layers, points)
        (outline,) = self._looked_up(self.outline[None], points)
        y = points[:, 1]
        return torch.minimum(torch.minimum(y - first, last - y), outline)

    def geometry(self, points: Tensor) -> Tensor:
        """points (N, 3) float32 -> density (N,) float32."""
        return torch.exp(STEEPNESS * self.inside(points).clamp(-1, 1))

    def appearance(
        self, points: Tensor, directions: Tensor | None = None, normals: Tensor | None = None
    ) -> Tensor:
        """points (N, 3) -> (N, 3): the first layer's colour, the sides', the last's, by depth."""
        first, last = self._looked_up(self.layers, points)
        share = ((points[:, 1] - first) / (last - first).clamp(min=1e-3)).clamp(0, 1)[:, None]
        near, far, side = (self._looked_up(colour, points).T for colour in self.colours)
        ends = torch.where(share < 0.5, near, far)
        inner = (1 - (2 * share - 1).abs()) / SIDES_FROM
        return torch.lerp(ends, side, inner.clamp(0, 1))

    def save(self, path: Path) -> None:
        """One safetensors file."""
        tensors = {"layers": self.layers, "outline": self.outline, "colours": self.colours}
        about = {"field": "depth_layers", "nearness": repr(self.nearness), "level": repr(self.level)}
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path, about)

    @classmethod
    def load(cls, path: Path) -> DepthLayers:
        """Inverse of `save`; the file does not stay mapped."""
        with safe_open(path, "pt") as file:
            about = file.metadata()
            layers, outline, colours = (
                file.get_tensor(name).clone() for name in ("layers", "outline", "colours")
            )
        return cls(layers, outline, colours, float(about["nearness"]), float(about["level"]))

    def to(self, device: torch.device) -> DepthLayers:
        """The same field on another device."""
        maps = (self.layers.to(device), self.outline.to(device), self.colours.to(device))
        return DepthLayers(*maps, self.nearness, self.level)
