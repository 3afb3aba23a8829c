# SPDX-License-Identifier: GPL-3.0-or-later
"""EG3D as its paper and its published program say it, step by step: slow, and what the fast one must equal and is timed against.

Whole tensors at a time, pictures rows first, one 2D filter after zeros were inserted, every plane sampled channel by channel,
all features sorted with their depths. Takes the weights of `core.models.eg3d.generator.Eg3d`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from maquette.core.models.eg3d.configuration import AXES
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.eg3d.rays import camera_rays
from torch import Tensor, nn

KERNEL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def fully(layer: nn.Module, x: Tensor) -> Tensor:
    scale = layer.rate / math.sqrt(layer.weight.shape[1])
    return x @ (layer.weight * scale).T + layer.bias * layer.rate


def filtered(x: Tensor, up: int, before: int, after: int, gain: float) -> Tensor:
    """Insert zeros, pad, filter every channel."""
    batch, channels, height, width = x.shape
    x = F.pad(x.reshape(batch, channels, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1))
    x = F.pad(x.reshape(batch, channels, height * up, width * up), (before, after, before, after))
    return F.conv2d(x, (KERNEL * gain).repeat(channels, 1, 1, 1), groups=channels)


def modulated(x: Tensor, weight: Tensor, style: Tensor, up: bool, demodulate: bool) -> Tensor:
    w = weight[None] * style[:, None, :, None, None]
    if demodulate:
        w = w * (w.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    if not up:
        return torch.cat([F.conv2d(x[i : i + 1], w[i], padding=weight.shape[-1] // 2) for i in range(len(x))])
    # one by one: torch's gradient of a grouped transposed convolution on a processor is wrong (2.13)
    y = torch.cat([F.conv_transpose2d(x[i : i + 1], w[i].transpose(0, 1), stride=2) for i in range(len(x))])
    return filtered(y, 1, 1, 1, 4.0)


def layer(part: nn.Module, x: Tensor, w: Tensor, noise: str) -> Tensor:
    y = modulated(x, part.weight, fully(part.affine, w), part.up, True)
    if noise == "const":
        y = y + part.noise_const * part.noise_strength
    y = F.leaky_relu(y + part.bias[:, None, None], 0.2) * math.sqrt(2)
    return y if part.clamp is None else y.clamp(-part.clamp, part.clamp)


def block(
    part: nn.Module, x: Tensor | None, image: Tensor | None, rows: list[Tensor], noise: str
) -> tuple[Tensor, Tensor]:
    rows = list(rows)
    if x is None:
        x = part.const[None].repeat(len(rows[0]), 1, 1, 1)
    else:
        x = layer(part.conv0, x, rows.pop(0), noise)
    x = layer(part.conv1, x, rows.pop(0), noise)
    to_rgb = part.torgb
    style = fully(to_rgb.affine, rows.pop(0)) / math.sqrt(to_rgb.weight.shape[1])
    y = modulated(x, to_rgb.weight, style, False, False) + to_rgb.bias[:, None, None]
    if to_rgb.clamp is not None:
        y = y.clamp(-to_rgb.clamp, to_rgb.clamp)
    if image is not None:
        y = y + (filtered(image, 2, 2, 1, 4.0) if part.up else image)
    return x, y


def planes(model: Eg3d, ws: Tensor, noise: str = "const") -> Tensor:
    x = image = None
    row = 0
    for level in range(len(model.config.channels)):
        part = getattr(model.backbone.synthesis, f"b{4 << level}")
        used = 2 if level == 0 else 3
        x, image = block(part, x, image, list(ws[:, row : row + used].unbind(1)), noise)
        row += used - 1
    return image.reshape(len(ws), 3, -1, *image.shape[2:])


def query(model: Eg3d, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """planes (B, 3, C, S, S), points (B, N, 3) -> raw density (B, N, 1), colours (B, N, C)."""
    batch, count = points.shape[:2]
    scaled = 2 / model.config.rendering.box_warp * points
    grid = torch.stack([scaled[..., list(pair)] for pair in AXES[model.config.plane_axes]], 1)  # (B, 3, N, 2)
    found = F.grid_sample(planes.flatten(0, 1), grid.flatten(0, 1)[:, None], align_corners=False)
    features = found[:, :, 0].permute(0, 2, 1).reshape(batch, 3, count, -1).mean(1)
    out = fully(model.decoder.net[2], F.softplus(fully(model.decoder.net[0], features)))
    return out[..., :1], torch.sigmoid(out[..., 1:]) * 1.002 - 0.001


def march(depths: Tensor, colours: Tensor, sigma: Tensor, white: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(B, R, S, 1), (B, R, S, C), (B, R, S, 1) -> colours, depth, weights."""
    step = depths[:, :, 1:] - depths[:, :, :-1]
    colours, sigma, depths_mid = ((v[:, :, 1:] + v[:, :, :-1]) / 2 for v in (colours, sigma, depths))
    alpha = 1 - torch.exp(-F.softplus(sigma - 1) * step)
    shifted = torch.cat([torch.ones_like(alpha[:, :, :1]), 1 - alpha + 1e-10], 2)
    weights = alpha * torch.cumprod(shifted, 2)[:, :, :-1]
    total = weights.sum(2)
    rgb = (weights * colours).sum(2)
    depth = torch.nan_to_num((weights * depths_mid).sum(2) / total, float("inf"))
    depth = depth.clamp(depths.min(), depths.max())
    return 2 * (rgb + 1 - total if white else rgb) - 1, depth, weights


@torch.no_grad()
def fine_depths(depths: Tensor, weights: Tensor, count: int) -> Tensor:
    """(N, D), (N, D - 1) -> (N, count) at even quantiles."""
    weights = F.avg_pool1d(F.max_pool1d(weights[:, None], 2, 1, padding=1), 2, 1)[:, 0] + 0.01
    middle = 0.5 * (depths[:, :-1] + depths[:, 1:])
    inner = weights[:, 1:-1] + 1e-5
    cdf = torch.cumsum(inner / inner.sum(-1, keepdim=True), -1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], -1)
    u = torch.linspace(0, 1, count).expand(len(depths), count).contiguous()
    index = torch.searchsorted(cdf, u, right=True)
    low, high = (index - 1).clamp_min(0), index.clamp_max(inner.shape[1])
    c0, c1, m0, m1 = cdf.gather(1, low), cdf.gather(1, high), middle.gather(1, low), middle.gather(1, high)
    width = torch.where(c1 - c0 < 1e-5, torch.ones_like(c0), c1 - c0)
    return m0 + (u - c0) / width * (m1 - m0)


def render(model: Eg3d, planes: Tensor, labels: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Feature pictures (B, C, R, R) and depths (B, 1, R, R), without random draws."""
    config = model.config.rendering
    origins, directions = camera_rays(labels, resolution)
    batch, rays = origins.shape[:2]
    n, m = config.depth_resolution, config.depth_resolution_importance
    coarse = torch.linspace(config.ray_start, config.ray_end, n).reshape(1, 1, n, 1).repeat(batch, rays, 1, 1)

    def ask(depths: Tensor) -> tuple[Tensor, Tensor]:
        points = (origins[:, :, None] + depths * directions[:, :, None]).reshape(batch, -1, 3)
        sigma, colours = query(model, planes, points)
        return sigma.reshape(batch, rays, -1, 1), colours.reshape(batch, rays, depths.shape[2], -1)

    sigma, colours = ask(coarse)
    _, _, weights = march(coarse, colours, sigma, config.white_back)
    fine = fine_depths(coarse.reshape(-1, n), weights.reshape(-1, n - 1), m).reshape(batch, rays, m, 1)
    sigma_fine, colours_fine = ask(fine)
    depths = torch.cat([coarse, fine], 2)
    colours, sigma = torch.cat([colours, colours_fine], 2), torch.cat([sigma, sigma_fine], 2)
    depths, order = depths.sort(2)
    colours = colours.gather(2, order.expand(-1, -1, -1, colours.shape[-1]))
    rgb, depth, _ = march(depths, colours, sigma.gather(2, order), config.white_back)
    return tuple(v.permute(0, 2, 1).reshape(batch, -1, resolution, resolution) for v in (rgb, depth))


def picture(model: Eg3d, ws: Tensor, labels: Tensor, resolution: int) -> Tensor:
    """The final picture."""
    features, _ = render(model, planes(model, ws), labels, resolution)
    side = model.config.superresolution.side
    if resolution != side:
        features = F.interpolate(features, size=(side, side), mode="bilinear", antialias=True)
    x, image, w = features, features[:, :3], ws[:, -1]
    for part in (model.superresolution.block0, model.superresolution.block1):
        x, image = block(part, x, image, [w, w, w], "none")
    return image


def density_grid(model: Eg3d, planes: Tensor, side: int, chunk: int = 1_000_000) -> Tensor:
    """Raw densities (side, side, side) of one head over its box, a million points at a time, colours computed and dropped."""
    line = torch.linspace(-0.5, 0.5, side) * model.config.rendering.box_warp
    out = []
    for start in range(0, side**3, chunk):
        flat = torch.arange(start, min(start + chunk, side**3))
        points = torch.stack([line[flat // side**2], line[flat // side % side], line[flat % side]], 1)
        out.append(query(model, planes, points[None])[0][0, :, 0])
    return torch.cat(out).reshape(side, side, side)
