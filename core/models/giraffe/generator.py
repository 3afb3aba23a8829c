# SPDX-License-Identifier: GPL-3.0-or-later
"""GIRAFFE (Niemeyer & Geiger, CVPR 2021): a scene of feature fields in boxes before a background, rendered to a picture.

Layout of the public checkpoints of giraffe (keys without `generator.`). World z-up, poses as Blender's `matrix_world`;
depth runs along the optical axis from 0.5 to 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..parts.compositing import FAR, interval_lengths, jitter_depths, ray_weights
from ..parts.key_shapes import Shapes, under
from ..parts.sphere_poses import look_at, point_on_sphere
from .decoder import FeatureField, FieldConfig, field_config_from, field_shares
from .renderer import NeuralRenderer, RendererConfig, renderer_config_from

BOX = 1.1
"""Half edge of an object's box in its own frame: no density outside."""
NEAR, FAR_DEPTH = 0.5, 6.0
DOWNSCALE, DOWNSCALE_BACKGROUND = 2.0, 12.0


class Codes(NamedTuple):
    """Latent codes, all from N(0, 1)."""

    shape: Tensor
    """(B, N, z) of the objects."""
    look: Tensor
    """(B, N, z)."""
    background_shape: Tensor
    """(B, z_bg)."""
    background_look: Tensor
    """(B, z_bg)."""


class Boxes(NamedTuple):
    """Where the objects stand."""

    scale: Tensor
    """(B, N, 3)."""
    translation: Tensor
    """(B, N, 3)."""
    rotation: Tensor
    """(B, N, 3, 3), about z; applied as R (p - translation) / scale."""
    background_rotation: Tensor | None = None
    """(B, 3, 3)."""


class Camera(NamedTuple):
    """Lens and pose."""

    inverse: Tensor
    """(B, 4, 4) diag(1 / f, 1 / f, 1, 1), f = 1 / tan(fov / 2)."""
    pose: Tensor
    """(B, 4, 4) camera to world."""


@dataclass(frozen=True)
class RenderOptions:
    """How to render."""

    rays: int = 16
    """Side of the feature picture."""
    samples: int = 64
    """Per ray."""
    background: bool = True
    objects: bool = True
    maximum: bool = False
    """Compose by the densest field."""


@dataclass(frozen=True)
class GiraffeConfig:
    """Widths of the generator."""

    decoder: FieldConfig = field(default_factory=FieldConfig)
    background: FieldConfig = field(
        default_factory=lambda: FieldConfig(64, 128, 128, 3, DOWNSCALE_BACKGROUND, skips=0)
    )
    renderer: RendererConfig = field(default_factory=RendererConfig)


_AT_256 = GiraffeConfig(
    FieldConfig(features=256),
    FieldConfig(64, 128, 256, 3, DOWNSCALE_BACKGROUND, skips=0),
    RendererConfig((256, 128, 64, 32, 32)),
)
_CLEVR2345 = GiraffeConfig(
    FieldConfig(64, 64, 128),
    FieldConfig(32, 32, 128, 3, DOWNSCALE_BACKGROUND, skips=0),
    RendererConfig((128, 64, 32, 32, 32)),
)
PUBLISHED = {
    **dict.fromkeys(
        ("64res/cars_64", "64res/cats_64", "64res/celeba_64", "64res/chairs_64"), GiraffeConfig()
    ),
    "64res/church_64": GiraffeConfig(),
    **dict.fromkeys(("256res/cars_256", "256res/celebahq_256", "256res/church_256"), _AT_256),
    **dict.fromkeys(("256res/clevr2_256", "256res/ffhq_256"), _AT_256),
    "256res/clevr2345_256": _CLEVR2345,
}


class Giraffe(nn.Module):
    """Object field, background field, neural renderer."""

    def __init__(self, config: GiraffeConfig) -> None:
        super().__init__()
        self.decoder = FeatureField(config.decoder)
        self.background_generator = FeatureField(config.background)
        self.neural_renderer = NeuralRenderer(config.renderer)

    def forward(
        self, codes: Codes, boxes: Boxes, camera: Camera, options: RenderOptions | None = None
    ) -> Tensor:
        """The picture (B, 3, S, S) in 0..1."""
        image: Tensor = self.neural_renderer(
            self.feature_picture(codes, boxes, camera, options or RenderOptions())
        )
        return image

    def feature_picture(
        self,
        codes: Codes,
        boxes: Boxes,
        camera: Camera,
        options: RenderOptions,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Feature picture (B, F, R, R): equations 9 and 10. A generator jitters depths and density (training)."""
        eye, pixels, depths = rays(camera, options, generator)
        densities, features = [], []
        if options.objects:
            for k in range(boxes.scale.shape[1]):
                density, feature = self._object(k, codes, boxes, eye, pixels, depths, generator)
                densities.append(density)
                features.append(feature)
        if options.background:
            density, feature = self._background(codes, boxes, eye, pixels, depths, generator)
            densities.append(density)
            features.append(feature)
        density, shares = field_shares(torch.stack(densities), options.maximum)
        weights = world_weights(density, depths, eye, pixels)  # (B, P, S)
        picture = torch.zeros((), device=density.device)
        for share, feature in zip(shares, features, strict=True):
            parts = (weights * share.view_as(weights))[..., None, :]  # (B, P, 1, S)
            picture = picture + (parts @ feature.unflatten(1, weights.shape[1:]))[..., 0, :]  # (B, P, F)
        return as_picture(picture, options.rays)

    def object_mattes(self, codes: Codes, boxes: Boxes, camera: Camera, options: RenderOptions) -> Tensor:
        """Opacity of each object alone, (B, N, R, R); the last interval counts as empty."""
        eye, pixels, depths = rays(camera, options, None)
        mattes = []
        for k in range(boxes.scale.shape[1]):
            density, _ = self._object(k, codes, boxes, eye, pixels, depths, None)
            mattes.append(world_weights(density, depths, eye, pixels, last=0.0).sum(-1))
        return as_picture(torch.stack(mattes, -1), options.rays)

    def _object(
        self,
        k: int,
        codes: Codes,
        boxes: Boxes,
        eye: Tensor,
        pixels: Tensor,
        depths: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Density (B, P S) and features of object k on the rays' samples; the field is asked inside its box only."""
        local = [to_box(p, boxes, k) for p in (eye, pixels)]
        points, directions = samples_on_rays(local[0], local[1], depths)
        inside = (points.abs() <= BOX).all(-1)
        density = points.new_zeros(inside.shape)
        features = points.new_zeros(*inside.shape, self.decoder.config.features)
        for b, chosen in enumerate(inside):
            here = [values[b : b + 1] for values in (codes.shape[:, k], codes.look[:, k])]
            found = self.decoder(points[b, chosen][None], directions[b, chosen][None], *here)
            density[b, chosen], features[b, chosen] = found[0][0].float(), found[1][0].float()
        return torch.where(inside, positive(density, generator), 0.0), features

    def _background(
        self,
        codes: Codes,
        boxes: Boxes,
        eye: Tensor,
        pixels: Tensor,
        depths: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        if boxes.background_rotation is not None:
            eye, pixels = (p @ boxes.background_rotation.mT for p in (eye, pixels))
        points, directions = samples_on_rays(eye, pixels, depths)
        density, features = self.background_generator(
            points, directions, codes.background_shape, codes.background_look
        )
        return positive(density.float(), generator), features.float()


def positive(density: Tensor, generator: torch.Generator | None) -> Tensor:
    """Density without negative values; training adds N(0, 1) first."""
    noise = 0.0 if generator is None else torch.randn(density.shape, generator=generator).to(density)
    return torch.relu(density + noise)


def rays(
    camera: Camera, options: RenderOptions, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Eye (B, P, 3), points of the pixels one unit before the camera (B, P, 3) and depths (B, P, S); P = R^2, x outermost."""
    x, y = pixel_lattice(options.rays).to(camera.pose).T
    local = torch.stack(
        [x, -y, -torch.ones_like(x), torch.ones_like(x)]
    )  # (4, P), columns: rounding as published
    points = (camera.pose @ camera.inverse @ local)[:, :3].mT
    eye = camera.pose[:, None, :3, 3].expand_as(points)
    t = NEAR + torch.linspace(0.0, 1.0, options.samples).to(points) * (FAR_DEPTH - NEAR)
    depths = t.expand(*points.shape[:2], -1)
    return eye, points, depths if generator is None else jitter_depths(depths, generator)


def pixel_lattice(side: int) -> Tensor:
    """(side^2, 2) x, y in -1..1, both ends included, x outermost."""
    line = 2.0 * torch.arange(side) / (side - 1) - 1.0
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)


def to_box(points: Tensor, boxes: Boxes, k: int) -> Tensor:
    """World (B, P, 3) -> frame of object k: R (p - translation) / scale."""
    turned = (points - boxes.translation[:, k, None]) @ boxes.rotation[:, k].mT
    return turned / boxes.scale[:, k, None]


def samples_on_rays(eye: Tensor, pixels: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Points and unit directions (B, P S, 3) of the samples."""
    ray = pixels - eye
    points = eye[:, :, None] + depths[..., None] * ray[:, :, None]
    unit = (ray / ray.norm(dim=-1, keepdim=True))[:, :, None].expand_as(points)
    return points.flatten(1, 2), unit.flatten(1, 2)


def world_weights(density: Tensor, depths: Tensor, eye: Tensor, pixels: Tensor, last: float = FAR) -> Tensor:
    """Compositing weights (B, P, S); lengths are those of the world's rays."""
    lengths = interval_lengths(depths, (pixels - eye).norm(dim=-1), last)
    return ray_weights(density.reshape(depths.shape), lengths)


def as_picture(values: Tensor, side: int) -> Tensor:
    """(B, R^2, C), x outermost -> (B, C, R, R), rows first."""
    return values.mT.unflatten(2, (side, side)).mT


def camera_matrix(fov_deg: float) -> Tensor:
    """(1, 4, 4) inverse intrinsics of a square picture."""
    inverse = math.tan(math.radians(fov_deg) / 2.0)
    return torch.diag(torch.tensor([inverse, inverse, 1.0, 1.0]))[None]


def camera_pose(u: float, v: float, radius: float) -> Tensor:
    """(1, 4, 4) camera on the sphere, looking at the origin."""
    eye = point_on_sphere(*torch.tensor([u, v], dtype=torch.float64)) * radius
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = look_at(eye), eye
    return pose[None]


def rotation_about_z(turns: float) -> Tensor:
    """(3, 3) rotation by 2 pi turns."""
    c, s = math.cos(2.0 * math.pi * turns), math.sin(2.0 * math.pi * turns)
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def config_from(shapes: Shapes, norm: bool = False) -> GiraffeConfig:
    """Settings from the key shapes of a generator."""
    return GiraffeConfig(
        field_config_from(under(shapes, "decoder."), DOWNSCALE),
        field_config_from(under(shapes, "background_generator."), DOWNSCALE_BACKGROUND),
        renderer_config_from(under(shapes, "neural_renderer."), norm),
    )
