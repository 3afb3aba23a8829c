# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of textured meshes, by the z-buffer: what a result looks like through a camera."""

from __future__ import annotations

import torch
from torch import Tensor

from ..types import Camera, Mesh
from .rasterize import rasterize


def pyramid(picture: Tensor, levels: int) -> list[Tensor]:
    """(C, H, W) and its halvings by 2 x 2 means, at most `levels`, the last at least 2 pixels wide."""
    steps = [picture]
    while len(steps) < levels and min(steps[-1].shape[1:]) >= 4:
        steps.append(torch.nn.functional.avg_pool2d(steps[-1][None], 2, ceil_mode=True)[0])
    return steps


def sample(picture: Tensor, positions: Tensor) -> Tensor:
    """(C, H, W) at (N, 2) positions x, y in 0..1 of its width and height, bilinear, held at the border -> (N, C)."""
    grid = (positions * 2 - 1)[None, None]
    out = torch.nn.functional.grid_sample(picture[None], grid, padding_mode="border", align_corners=False)
    return out[0, :, 0].T


def sample_minified(steps: list[Tensor], positions: Tensor, footprint: Tensor) -> Tensor:
    """Sample a pyramid where one output sample spans `footprint` (N,) input pixels; linear between its levels -> (N, C)."""
    level = footprint.clamp_min(1.0).log2().clamp_max(len(steps) - 1)
    below = level.long().clamp_max(len(steps) - 1)
    out = torch.zeros((len(positions), steps[0].shape[0]), device=positions.device)
    for number, step in enumerate(steps):
        # Each sample takes part of the level below its footprint and part of the one above.
        share = 1.0 - (level - number).abs()
        index = torch.nonzero((share > 1e-3) & ((below == number) | (below == number - 1))).squeeze(1)
        if len(index):
            out[index] += share[index, None] * sample(step, positions[index])
    return out


def render_textured(
    mesh: Mesh, texture: Tensor, camera: Camera, oversample: int = 2
) -> tuple[Tensor, Tensor]:
    """A mesh with its base colour, unlit, as the camera sees it.

    Args:
        mesh: has UVs.
        texture: (S, T, 3) float32 sRGB 0..1, row 0 at the top.
        camera: without distortion.
        oversample: rays per pixel and axis.

    Returns:
        (H, W, 3) sRGB 0..1, black where there is no mesh, straight; (H, W) coverage 0..1.
    """
    assert mesh.uvs is not None, "the mesh has no UVs"
    device = texture.device
    fine = camera.resized(camera.width * oversample, camera.height * oversample)
    vertices = torch.as_tensor(mesh.vertices, device=device)
    faces = torch.as_tensor(mesh.faces, device=device).long()
    uvs = torch.as_tensor(mesh.uvs, device=device)
    raster = rasterize(vertices, faces, fine)
    pixel = torch.nonzero(raster.face.reshape(-1) >= 0).squeeze(1)
    face = raster.face.reshape(-1)[pixel].long()
    weights = raster.barycentric.reshape(-1, 3)[pixel]
    uv = (weights[:, :, None] * uvs[face]).sum(1)
    # Texels per sample: the face's area in the texture over its area as seen, both per unit of surface.
    pixel_size = raster.depth.reshape(-1)[pixel] / fine.fx
    footprint = pixel_size * texels_per_unit(vertices, faces, uvs, texture.shape[0])[face]
    steps = pyramid(texture.permute(2, 0, 1).float(), 8)
    rgb = torch.zeros((fine.height * fine.width, 3), device=device)
    rgb[pixel] = sample_minified(steps, torch.stack([uv[:, 0], 1.0 - uv[:, 1]], 1), footprint)
    alpha = (raster.face >= 0).float().reshape(-1, 1)
    stacked = torch.cat([rgb, alpha], 1).T.reshape(1, 4, fine.height, fine.width)
    mean = torch.nn.functional.avg_pool2d(stacked, oversample)[0]
    return (mean[:3] / mean[3].clamp_min(1e-6)).permute(1, 2, 0).clamp(0, 1), mean[3]


def texels_per_unit(vertices: Tensor, faces: Tensor, uvs: Tensor, size: int) -> Tensor:
    """(F,) float32: how many texels of a size x size texture lie along one unit of length of each face."""
    a, b, c = vertices[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=1)
    u, v = (uvs[:, 1] - uvs[:, 0]), (uvs[:, 2] - uvs[:, 0])
    flat = (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).abs()
    return size * (flat / area.clamp_min(1e-20)).sqrt()
