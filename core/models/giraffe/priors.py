# SPDX-License-Identifier: GPL-3.0-or-later
"""Where GIRAFFE's published models put cameras and boxes, and slider values to boxes (supplementary 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .generator import Boxes, Camera, camera_matrix, camera_pose, rotation_about_z

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class GiraffePrior:
    """Ranges of one data set; values 0 and 1 of a slider stand for the ends, others are allowed."""

    scale: tuple[Triple, Triple] = ((0.21, 0.21, 0.21), (0.21, 0.21, 0.21))
    translation: Triple = (0.0, 0.0, 0.0)
    """Plus and minus, x is depth, y sideways."""
    rotation: tuple[float, float] = (0.0, 1.0)
    """Turns about z."""
    v: tuple[float, float] = (0.41667, 0.5)
    """Height of the camera on the sphere; 0.5 is the horizon."""
    fov_deg: float = 49.13
    radius: float = 2.732
    plane_z: float | None = None
    """Objects stand on this height."""
    boxes: int = 1

    def boxes_at(
        self, scales: Sequence[float], places: Sequence[Sequence[float]], turns: Sequence[float]
    ) -> Boxes:
        """Slider values per object -> boxes, batch of one; one value scales all axes, as published."""
        low, high = (torch.tensor(s) for s in self.scale)
        scale = torch.stack([low + value * (high - low) for value in scales])
        reach = torch.tensor(self.translation)
        translation = torch.stack([-reach + torch.tensor(place) * 2 * reach for place in places])
        if self.plane_z is not None:
            translation[:, 2] = self.plane_z
        first, last = self.rotation
        rotation = torch.stack([rotation_about_z(first + turn * (last - first)) for turn in turns])
        return Boxes(scale[None], translation[None], rotation[None])

    def camera_at(self, height: float = 0.5) -> Camera:
        """The camera on +x at a height 0..1 of its range, batch of one."""
        low, high = self.v
        return Camera(camera_matrix(self.fov_deg), camera_pose(0.0, low + height * (high - low), self.radius))


_CARS = GiraffePrior(((0.2, 0.16, 0.16), (0.25, 0.2, 0.2)), (0.22, 0.12, 0.0), fov_deg=10.0)
_FACES = GiraffePrior(rotation=(0.40278, 0.59722), fov_deg=10.0)
_CHURCH = GiraffePrior(((0.45,) * 3, (0.55,) * 3), (0.15, 0.15, 0.0), v=(0.5, 0.5), fov_deg=30.0)
PRIORS = {
    "64res/cars_64": _CARS,
    "256res/cars_256": _CARS,
    "64res/celeba_64": GiraffePrior(rotation=(0.40278, 0.59722), v=(0.4167, 0.5), fov_deg=10.0),
    "256res/celebahq_256": GiraffePrior(rotation=(0.375, 0.625), v=(0.4167, 0.5), fov_deg=10.0),
    "256res/ffhq_256": GiraffePrior(rotation=(0.40278, 0.59722), v=(0.4167, 0.5), fov_deg=10.0),
    "64res/cats_64": _FACES,
    "64res/chairs_64": GiraffePrior(((0.5,) * 3, (0.5,) * 3), v=(0.05, 0.5)),
    "64res/church_64": _CHURCH,
    "256res/church_256": _CHURCH,
    "256res/clevr2_256": GiraffePrior(
        ((0.17,) * 3, (0.17,) * 3),
        (0.713, 0.713, 0.0),
        (0.0, 0.0),
        (0.33333, 0.33333),
        plane_z=0.1665,
        boxes=2,
    ),
    "256res/clevr2345_256": GiraffePrior(
        ((0.17,) * 3, (0.17,) * 3), (0.71, 0.71, 0.0), (0.0, 0.0), (0.33333, 0.33333), plane_z=0.1665, boxes=5
    ),
}


def random_codes(
    shape: tuple[int, int], z_dim: int, z_background: int, seed: int, temperature: float = 0.65
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes for (batch, objects); the published videos use temperature 0.65."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((*shape, z_dim), (*shape, z_dim), (shape[0], z_background), (shape[0], z_background))
    first, second, third, fourth = (torch.randn(size, generator=generator) * temperature for size in sizes)
    return first, second, third, fourth
