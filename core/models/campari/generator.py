# SPDX-License-Identifier: GPL-3.0-or-later
"""CAMPARI (Niemeyer & Geiger, 3DV 2021): foreground in a sphere, background outside, cameras learned with them.

Layout of the public checkpoints of campari (keys without `generator.`).
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..parts.compositing import FAR, interval_lengths, jitter_depths
from ..parts.key_shapes import Shapes, count, has, under
from ..parts.rows import chunk_of
from .cameras import CameraNetwork, Cameras, lattice_rays
from .decoder import FieldConfig, RadianceField, field_config_from

EPSILON = 1e-6
TINY = 1e-6


@dataclass(frozen=True)
class CampariConfig:
    """Settings of the generator."""

    field: FieldConfig = dataclass_field(default_factory=FieldConfig)
    background: FieldConfig | None = dataclass_field(default_factory=lambda: FieldConfig(dim=4))
    camera_dim: int = 5
    camera_hidden: int = 64
    camera_blocks: int = 4
    fov: tuple[float, float] = (35.0, 25.0)
    """Middle and reach, degrees; not visible in the weights."""
    white: bool = False
    """White behind the foreground; not visible in the weights."""


PUBLISHED = {
    "celeba": CampariConfig(),
    "cats": CampariConfig(background=None),
    "carla": CampariConfig(background=None, camera_dim=8, white=True),
    "chairs1": CampariConfig(background=None, camera_dim=8, white=True, fov=(49.1, 0.0)),
    "chairs2": CampariConfig(background=None, camera_dim=8, white=True, fov=(49.1, 0.0)),
}


class CampariImage(NamedTuple):
    """Pictures (B, H, W, C)."""

    rgb: Tensor
    foreground: Tensor
    background: Tensor
    """Alone, without what stands before it."""
    opacity: Tensor
    """(B, H, W, 1) of the foreground."""
    depth: Tensor
    """(B, H, W, 1) sum of weight times depth."""


class Campari(nn.Module):
    """Foreground field, optional background field, camera generator."""

    def __init__(self, config: CampariConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = RadianceField(config.field)
        self.latent_cameras = CameraNetwork(config.camera_dim, config.camera_hidden, config.camera_blocks)
        if config.background:
            self.decoder_bg = RadianceField(config.background)

    def forward(
        self,
        cameras: Cameras,
        z: Tensor,
        z_background: Tensor | None,
        side: int,
        samples: int = 64,
        pixels: int = 128,
        generator: torch.Generator | None = None,
    ) -> CampariImage:
        """A picture over a lattice of side x side rays.

        Args:
            cameras: B cameras.
            z, z_background: (B, c_dim) codes.
            side: rays per axis.
            samples: of the foreground; the background takes a quarter.
            pixels: side of the nominal picture.
            generator: jitters the depths (training).
        """
        origin, direction = lattice_rays(cameras, side, pixels)
        near, far = (value[:, None, None, None] for value in cameras.depth_range())
        t = torch.linspace(0.0, 1.0, samples).to(direction)
        depths = (near * (1.0 - t) + far * t).expand(*direction.shape[:3], -1)  # (B, H, W, S)
        depths = depths if generator is None else jitter_depths(depths, generator)
        points = origin[..., None, :] + depths[..., None] * direction[..., None, :]
        length = direction.norm(dim=-1)
        unit = (direction / length[..., None])[..., None, :]
        density, colour = by_rows(self.decoder, points, unit, z)
        lengths = interval_lengths(depths, length, (far - depths[..., -1:])[..., 0])
        weights, left = weights_and_rest(density, lengths)
        foreground = (weights[..., None] * colour).sum(-2)
        opacity = weights.sum(-1, keepdim=True)
        rgb, background = foreground, torch.zeros_like(foreground)
        if self.config.background and z_background is not None:
            background = self._background(origin, direction, unit, z_background, max(samples // 4, 1))
            rgb = foreground + left * background
        if self.config.white:
            rgb = rgb + (1.0 - opacity)
        depth = (weights * depths).sum(-1, keepdim=True)
        return CampariImage(rgb, foreground, background, opacity, depth)

    def _background(self, origin: Tensor, direction: Tensor, unit: Tensor, z: Tensor, samples: int) -> Tensor:
        """Colour of the background (B, H, W, 3) from an even grid of inverse radii (published: jittered even at test)."""
        inverse = torch.linspace(0.0, 1.0, samples).to(direction).expand(*direction.shape[:3], -1)
        points, _ = inverted_sphere(origin[..., None, :], direction[..., None, :], inverse)
        points, inverse = points.flip(-2), inverse.flip(-1)  # near (1) to far (0)
        density, colour = by_rows(self.decoder_bg, points, unit, z)
        lengths = torch.cat(
            [inverse[..., :-1] - inverse[..., 1:], torch.full_like(inverse[..., :1], FAR)], -1
        )
        weights, _ = weights_and_rest(density, lengths)
        return (weights[..., None] * colour).sum(-2)


def by_rows(field: RadianceField, points: Tensor, unit: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """A field at points (B, H, W, S, dim) seen along (B, H, W, 1, 3), some rows of the picture at a time."""
    rows = max(chunk_of(points.device) // points[:, 0, ..., 0].numel(), 1)
    pairs = zip(points.split(rows, 1), unit.split(rows, 1), strict=True)
    densities, colours = zip(*(field(*pair, z[:, None, None, None]) for pair in pairs), strict=True)
    return torch.cat(densities, 1), torch.cat(colours, 1)


def weights_and_rest(density: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (..., S) and what passes the last sample (..., 1)."""
    alpha = 1.0 - torch.exp(-density * lengths)
    passed = torch.cumprod(1.0 - alpha + EPSILON, -1)
    return alpha * torch.cat([torch.ones_like(alpha[..., :1]), passed[..., :-1]], -1), passed[..., -1:]


def inverted_sphere(origin: Tensor, direction: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Points outside the unit sphere by inverse radius (NeRF++, Zhang et al. 2020, section 4).

    Args:
        origin: (..., 1, 3) inside the sphere.
        direction: (..., 1, 3).
        inverse: (..., S) 1 / radius, 0..1.

    Returns:
        (..., S, 4): point on the unit sphere and inverse radius; and depths along the rays (..., S). Rays that miss the
        sphere, possible only from outside it, give not-a-number.
    """
    d1 = -(origin * direction).sum(-1, keepdim=True) / direction.square().sum(-1, keepdim=True)
    middle = (origin + d1 * direction).norm(dim=-1, keepdim=True)
    per_length = 1.0 / direction.norm(dim=-1, keepdim=True)
    d2 = torch.sqrt(1.0 - middle.square()) * per_length
    on_sphere = origin + (d1 + d2) * direction
    axis = torch.linalg.cross(origin.expand_as(on_sphere), on_sphere)
    axis = axis / axis.norm(dim=-1, keepdim=True)
    theta = torch.asin(middle * inverse[..., None])  # (..., S, 1)
    angle = torch.asin(middle) - theta
    turned = (
        on_sphere * torch.cos(angle)
        + torch.linalg.cross(axis, on_sphere) * torch.sin(angle)
        + axis * (axis * on_sphere).sum(-1, keepdim=True) * (1.0 - torch.cos(angle))
    )
    turned = turned / turned.norm(dim=-1, keepdim=True)
    depth = (torch.cos(theta) * per_length)[..., 0] / (inverse + TINY) + d1[..., 0]
    return torch.cat([turned, inverse[..., None]], -1), depth


def config_from(
    shapes: Shapes, fov: tuple[float, float] = (35.0, 25.0), white: bool = False
) -> CampariConfig:
    """Settings from the key shapes of a generator."""
    camera = under(shapes, "latent_cameras.")
    background = None
    if has(shapes, "decoder_bg."):
        background = field_config_from(under(shapes, "decoder_bg."), 4)
    hidden, dim = camera["fc_in.weight"]
    blocks = count(camera, "blocks.{}.weight")
    return CampariConfig(
        field_config_from(under(shapes, "decoder.")), background, dim, hidden, blocks, fov, white
    )
