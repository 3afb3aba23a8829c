# SPDX-License-Identifier: GPL-3.0-or-later
"""Surface rendering of an implicit function and its gradient (Niemeyer et al. 2020, sections 3.2 and 3.3).

Cameras are three 4x4 matrices, p_image = K W S p: intrinsics, world to camera, and the scale of the object's unit cube in
the world. Pixels run from -1 to 1, (-1, -1) at the top left; the camera looks along +z. Rays are not normalised: depth
d stands for the point origin + d * ray, and d = 1 lies on the plane z = 1 of the camera.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Occupancy = Callable[[Tensor, Tensor | None], Tensor]
"""points (B, T, 3) and code (B, c) -> logits relative to the level (B, T)."""
HALF_EDGE = 0.55
"""Of the cube in which surfaces are looked for: the unit cube padded by 10 %."""
SECANT_STEPS = 8


def pixel_rays(pixels: Tensor, camera: Tensor, world: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Rays in the object's frame.

    Args:
        pixels: (B, N, 2) in -1..1.
        camera, world, scale: (B, 4, 4) each.

    Returns:
        origins and rays, each (B, N, 3).
    """
    inverse = torch.linalg.inv(camera @ world @ scale)
    homogeneous = torch.cat([pixels, torch.ones_like(pixels)], -1)  # (x, y, 1, 1)
    points = (homogeneous @ inverse.mT)[..., :3]
    origin = inverse[:, None, :3, 3].expand_as(points)
    return origin, points - origin


def cube_interval(
    origin: Tensor, ray: Tensor, half_edge: float = HALF_EDGE, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Depths where rays cross the faces of the cube.

    Returns:
        (B, N, 2) ascending depths, zero where the ray does not cross exactly twice, and (B, N) whether it does.
    """
    faces = torch.tensor([-half_edge, half_edge], dtype=ray.dtype, device=ray.device)
    depths = (faces[:, None] - origin[..., None, :]) / ray[..., None, :]  # (B, N, 2, 3)
    depths = depths.flatten(-2)  # (B, N, 6)
    points = origin[..., None, :] + depths[..., None] * ray[..., None, :]
    on_cube = (points.abs() <= half_edge + epsilon).all(-1)
    crosses = on_cube.sum(-1) == 2
    ordered = torch.where(on_cube, depths, torch.inf).sort(-1).values[..., :2].abs()
    return torch.where(crosses[..., None], ordered, 0.0), crosses


@torch.no_grad()
def march_rays(
    occupancy: Occupancy,
    c: Tensor | None,
    origin: Tensor,
    ray: Tensor,
    samples: int,
    depth_range: tuple[float, float] = (0.0, 2.4),
) -> Tensor:
    """First crossing from outside to inside along each ray (B, N): infinite where there is none, 0 where it starts inside.

    Args:
        occupancy: logits relative to the level; positive inside.
        c: code.
        origin, ray: (B, N, 3).
        samples: evaluations per ray before the secant steps.
        depth_range: for rays that miss the cube.
    """
    interval, crosses = cube_interval(origin, ray)
    step = torch.linspace(0.0, 1.0, samples, dtype=ray.dtype, device=ray.device)
    whole = torch.linspace(*depth_range, samples, dtype=ray.dtype, device=ray.device)
    inside_cube = interval[..., :1] * (1.0 - step) + interval[..., 1:] * step
    depths = torch.where(crosses[..., None], inside_cube, whole)  # (B, N, S)
    points = origin[..., None, :] + depths[..., None] * ray[..., None, :]
    f = occupancy(points.flatten(1, 2), c).unflatten(1, depths.shape[1:])  # (B, N, S)
    changes = f[..., :-1] * f[..., 1:] < 0
    first = changes.int().argmax(-1, keepdim=True)
    f_low, f_high = f.gather(-1, first)[..., 0], f.gather(-1, first + 1)[..., 0]
    d_low, d_high = depths.gather(-1, first)[..., 0], depths.gather(-1, first + 1)[..., 0]
    hit = changes.any(-1) & (f_low < 0)
    d = _secant(occupancy, c, origin, ray, (d_low, d_high, f_low, f_high))
    d = torch.where(hit, d, torch.inf)
    return torch.where(f[..., 0] < 0, d, 0.0)


def _secant(
    occupancy: Occupancy, c: Tensor | None, origin: Tensor, ray: Tensor, bracket: tuple[Tensor, ...]
) -> Tensor:
    """Eight steps of false position inside the bracket (d_low, d_high, f_low, f_high)."""
    d_low, d_high, f_low, f_high = bracket
    d = -f_low * (d_high - d_low) / (f_high - f_low) + d_low
    for _ in range(SECANT_STEPS):
        f = occupancy(origin + d[..., None] * ray, c)
        low = f < 0
        d_low, f_low = torch.where(low, d, d_low), torch.where(low, f, f_low)
        d_high, f_high = torch.where(low, d_high, d), torch.where(low, f_high, f)
        d = -f_low * (d_high - d_low) / (f_high - f_low) + d_low
    return d


def attach_depth_gradient(
    occupancy: Occupancy, c: Tensor | None, origin: Tensor, ray: Tensor, depth: Tensor, hit: Tensor
) -> Tensor:
    """Depths (B, N) whose gradient is the implicit one, equation 6 of the paper: dd/dtheta = -(grad f . w)^-1 df/dtheta.

    Values are unchanged; rays without a hit get no gradient. |grad f . w| below 1e-3 counts as 1e-3.
    """
    points = (origin + torch.where(hit, depth, 0.0)[..., None] * ray).detach().requires_grad_(True)
    f = occupancy(points, c)
    (gradient,) = torch.autograd.grad(f.sum(), points, retain_graph=True)
    slope = (gradient * ray).sum(-1).detach()
    slope = torch.where(slope.abs() < 1e-3, torch.full_like(slope, 1e-3), slope)
    f = occupancy(points.detach(), c)
    return torch.where(hit, depth.detach() - (f - f.detach()) / slope, depth.detach())
