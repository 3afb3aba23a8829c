# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole dense grid at once: what multi-resolution extraction must equal. Fields in closed form to try it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from maquette.core.surface.marching import marching_cubes
from torch import Tensor


@dataclass
class AnalyticField:
    """A field from a formula."""

    formula: Callable[[Tensor], Tensor]
    kind: str = "density"
    level: float = 0.0
    box: Tensor = None  # type: ignore[assignment]
    colour: Callable[[Tensor], Tensor] | None = None
    channels: int = 3
    has_geometry: bool = True
    has_appearance: bool = True
    asked: int = 0

    def __post_init__(self) -> None:
        if self.box is None:
            self.box = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])

    def geometry(self, points: Tensor) -> Tensor:
        self.asked += len(points)
        return self.formula(points)

    def appearance(
        self, points: Tensor, directions: Tensor | None = None, normals: Tensor | None = None
    ) -> Tensor:
        return self.colour(points) if self.colour else torch.full_like(points, 0.5)

    def save(self, path: Path) -> None:
        raise NotImplementedError

    def to(self, device: torch.device) -> AnalyticField:
        return self


def sphere(radius: float) -> Callable[[Tensor], Tensor]:
    return lambda p: radius - p.norm(dim=1)


def torus(major: float, minor: float) -> Callable[[Tensor], Tensor]:
    return lambda p: minor - ((p[:, :2].norm(dim=1) - major) ** 2 + p[:, 2] ** 2).sqrt()


def gyroid(waves: float, thickness: float) -> Callable[[Tensor], Tensor]:
    def formula(p: Tensor) -> Tensor:
        (sx, sy, sz), (cx, cy, cz) = (p * waves).sin().unbind(1), (p * waves).cos().unbind(1)
        return thickness - (sx * cy + sy * cz + sz * cx).abs()

    return formula


def extract_dense(field: AnalyticField, resolution: int) -> tuple[Tensor, Tensor]:
    """Vertices (V, 3) and faces (F, 3) of the full grid over a cubic box; values padded as the extractor pads them."""
    low, high = field.box
    step = (high - low).max() / resolution
    axes = [low[i] + torch.arange(resolution + 1) * step for i in range(3)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 3)
    sign = -1.0 if field.kind == "signed_distance" else 1.0
    values = torch.cat([field.formula(part) for part in points.split(1 << 18)])
    vertices, faces = marching_cubes((sign * (values - field.level)).view([resolution + 1] * 3), 0.0)
    return low + vertices * step, faces
