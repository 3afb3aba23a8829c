# SPDX-License-Identifier: GPL-3.0-or-later
"""GRAF (Schwarz et al., NeurIPS 2020): a radiance field of a class of objects, conditioned on shape and appearance codes.

Layout of the public checkpoints of graf (`generator`, `generator_test`): the NeRF network with codes appended to its inputs.
World z-up; the camera looks at the origin from a sphere; a Blender camera's axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..nerf.network import NerfMlp
from ..nerf.rendering import Composite, camera_rays, composite
from ..parts.compositing import jitter_depths
from ..parts.fourier import nerf_encoding
from ..parts.rows import chunk_of

OCTAVES, VIEW_OCTAVES = 10, 4
POSITION_DIM = 3 + 6 * OCTAVES
VIEW_DIM = 3 + 6 * VIEW_OCTAVES


@dataclass(frozen=True)
class GrafData:
    """Cameras and background of one published data set."""

    radius: tuple[float, float]
    """Distance of the camera, lowest and highest."""
    fov_deg: float
    white: bool
    azimuth_deg: tuple[float, float]
    polar_deg: tuple[float, float]
    """From +z."""
    near: float = 7.5
    far: float = 12.5


PUBLISHED = {
    "carla": GrafData((10.0, 10.0), 30.0, True, (0.0, 360.0), (0.0, 85.0)),
    "celebA": GrafData((9.5, 10.5), 10.0, False, (0.0, 90.0), (70.0, 85.0)),
    "celebA_hq": GrafData((9.5, 10.5), 10.0, False, (0.0, 90.0), (70.0, 85.0)),
    "cats": GrafData((10.0, 10.0), 10.0, False, (0.0, 70.0), (70.0, 85.0)),
    "cub": GrafData((9.0, 11.0), 30.0, True, (0.0, 360.0), (60.0, 95.0)),
}


def shape_dim(network: NerfMlp) -> int:
    """Width of the shape code, the first part of z."""
    return network.config.position_dim - POSITION_DIM


def has_views(network: NerfMlp, z_dim: int) -> bool:
    """Whether the direction enters (not for the birds)."""
    return network.config.view_dim - (z_dim - shape_dim(network)) == VIEW_DIM


def evaluate(network: NerfMlp, points: Tensor, directions: Tensor | None, z: Tensor) -> Tensor:
    """The conditional field, equation 4.

    Args:
        points: (N, S, 3) world.
        directions: (N, 3) unit, or None for a network without view directions.
        z: (1 or N, z_dim): shape code, then appearance code.

    Returns:
        (N, S, 4) colour logits and raw density.
    """
    rays = max(chunk_of(points.device) // points.shape[1], 1)
    raw = []
    for start in range(0, len(points), rays):
        these = slice(start, start + rays)
        here = points[these]
        shape, look = (z if len(z) == 1 else z[these]).tensor_split([shape_dim(network)], 1)
        view = None if directions is None else nerf_encoding(directions[these], VIEW_OCTAVES)
        position = nerf_encoding(here.flatten(0, 1), OCTAVES)
        raw.append(network(position, view, shape, look).unflatten(0, here.shape[:2]))
    return torch.cat(raw)


def render_rays(
    network: NerfMlp,
    origin: Tensor,
    direction: Tensor,
    z: Tensor,
    data: GrafData,
    samples: int = 64,
    generator: torch.Generator | None = None,
    noise: float = 0.0,
) -> Composite:
    """Volume rendering of rays (R, 3) with one code (1, z_dim) or a code each (R, z_dim).

    Near and far shrink by (largest radius - distance of the camera), so that the sampled shell stays in place.

    Args:
        network: generator.
        origin, direction: rays, directions unnormalised.
        z: codes.
        data: cameras of the data set.
        samples: per ray, linear in depth.
        generator: jitters the samples (training).
        noise: standard deviation added to the density (training: 1 falling to 0 over 5000 iterations).
    """
    shift = 0.0 * origin[:, 0] if data.radius[0] == data.radius[1] else data.radius[1] - origin.norm(dim=-1)
    near, far = (value - shift[:, None] for value in (data.near, data.far))
    t = torch.linspace(0.0, 1.0, samples).to(origin)
    depths = near * (1.0 - t) + far * t  # (R, S)
    depths = depths if generator is None else jitter_depths(depths, generator)
    points = origin[:, None] + depths[..., None] * direction[:, None]
    views = direction / direction.norm(dim=-1, keepdim=True) if has_views(network, z.shape[1]) else None
    raw = evaluate(network, points, views, z)
    extra = torch.randn(raw.shape[:2], generator=generator).to(raw) * noise if noise else 0.0
    return composite(raw, depths, direction, data.white, extra)


def render(
    network: NerfMlp,
    pose: Tensor,
    z: Tensor,
    data: GrafData,
    size: tuple[int, int],
    focal: float,
    samples: int = 64,
) -> Composite:
    """A picture: pose (3, 4) camera to world, z (1, z_dim) -> `Composite` of shape (H, W)."""
    matrix = torch.tensor([[focal, 0.0, size[1] / 2], [0.0, focal, size[0] / 2], [0.0, 0.0, 1.0]])
    origin, direction = camera_rays(*size, matrix, pose)
    flat = render_rays(network, origin.reshape(-1, 3), direction.reshape(-1, 3), z, data, samples)
    return Composite(*(value.unflatten(0, size) for value in flat))


def focal_of(width: int, fov_deg: float) -> float:
    """Focal length in pixels."""
    return float(0.5 * width / torch.tan(torch.deg2rad(torch.tensor(0.5 * fov_deg, dtype=torch.float64))))


def orthographic_rays(
    height: int, width: int, pose: Tensor, size: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Parallel rays (H, W, 3) over a window of `size` (height, width) in world units around the camera."""
    x = (torch.arange(width).to(pose) - 0.5 * width) * size[1] / width
    y = -(torch.arange(height).to(pose) - 0.5 * height) * size[0] / height
    y, x = torch.meshgrid(y, x, indexing="ij")
    origin = pose[:3, 3] + x[..., None] * pose[:3, 0] + y[..., None] * pose[:3, 1]
    return origin, (-pose[:3, 2]).expand(origin.shape)
