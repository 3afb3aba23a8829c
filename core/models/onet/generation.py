# SPDX-License-Identifier: GPL-3.0-or-later
"""Grids, normals and refined vertices of an occupancy function (Mescheder et al. 2019, section 3.3).

An occupancy function maps points (N, 3) float32 to logits (N,) float32. The published cube has edge 1 + padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...surface.mise import Mise

Logits = Callable[[Tensor], Tensor]
PADDING = 0.1
BATCH = 100_000


def logit(probability: float) -> float:
    """ln p - ln(1 - p): the level of the logits that belongs to a probability."""
    return math.log(probability) - math.log(1.0 - probability)


@torch.no_grad()
def evaluate(function: Logits, points: Tensor, batch: int = BATCH) -> NDArray[np.float64]:
    """points (N, 3) -> (N,) float64, in batches."""
    return torch.cat([function(part) for part in points.split(batch)]).double().numpy()


def mise_grid(
    function: Logits, resolution: int, steps: int, threshold: float, box: float = 1.0 + PADDING
) -> NDArray[np.float64]:
    """((r 2^s) + 1)^3 logits by MISE; grid points are divided in float32, as published.

    Args:
        function: occupancy logits.
        resolution: cells per axis at the start.
        steps: halvings.
        threshold: probability on the surface.
        box: edge of the cube.
    """
    octree = Mise(resolution, steps, logit(threshold))
    while len(points := octree.query()):
        p = box * (torch.from_numpy(points).float() / octree.resolution - 0.5)
        octree.update(evaluate(function, p))
    return octree.dense()


def dense_grid(function: Logits, samples: int, box: float = 1.0 + PADDING) -> NDArray[np.float64]:
    """samples^3 logits on a lattice that includes both ends (the published path without upsampling steps)."""
    line = torch.linspace(-0.5, 0.5, samples)
    lattice = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)
    return evaluate(function, box * lattice.reshape(-1, 3)).reshape(samples, samples, samples)


def surface_normals(function: Logits, points: Tensor) -> Tensor:
    """Outward unit normals -grad logit / |grad logit| at points (N, 3)."""
    points = points.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(function(points).sum(), points)
    return -gradient / gradient.norm(dim=-1, keepdim=True)


def refine_vertices(
    function: Logits, vertices: Tensor, faces: Tensor, threshold: float, noise: Tensor, rate: float = 1e-4
) -> Tensor:
    """Move vertices onto the surface and turn faces towards its gradient (equation 6, with the published weights).

    Each step minimises mean (f(q) - threshold)^2 + 0.01 mean |n - n*|^2 at one random point q per face, with RMSprop.

    Args:
        function: occupancy logits.
        vertices: (V, 3) float32.
        faces: (F, 3) int64.
        threshold: probability on the surface (not its logit).
        noise: (steps, F, 3) barycentric coordinates, published: Dirichlet(1/2, 1/2, 1/2).
        rate: learning rate (DVR: 1e-5).

    Returns:
        (V, 3) float32.
    """
    vertices = vertices.detach().clone().requires_grad_(True)
    optimizer = torch.optim.RMSprop([vertices], lr=rate)
    for barycentric in noise:
        corners = vertices[faces]  # (F, 3, 3)
        q = (corners * barycentric[..., None]).sum(1)
        normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1])
        normal = normal / (normal.norm(dim=1, keepdim=True) + 1e-10)
        value = torch.sigmoid(function(q))
        (gradient,) = torch.autograd.grad(value.sum(), q, create_graph=True)
        target = -gradient / (gradient.norm(dim=1, keepdim=True) + 1e-10)
        loss = (value - threshold).square().mean() + 0.01 * (normal - target).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return vertices.detach()
