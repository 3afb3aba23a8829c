# SPDX-License-Identifier: GPL-3.0-or-later
"""Colour of a point as a weighted mean of what the pictures show there (IBRNet, Wang et al. 2021; SparseNeuS section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.rows import RowLinear, linear


def layers(*widths: int) -> nn.Sequential:
    """Linear layers with ELU between them; the names are 0, 2, 4."""
    parts: list[nn.Module] = []
    for i in range(len(widths) - 1):
        parts += [RowLinear(widths[i], widths[i + 1]), nn.ELU()]
    return nn.Sequential(*parts[:-1])


class BlendingNetwork(nn.Module):
    """Geometry latent, per-view features, direction differences, visibility -> colour."""

    def __init__(self, geometry: int = 16, view: int = 59) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.tensor(0.2))
        self.ray_dir_fc = layers(4, 16, view)
        self.base_fc = layers(geometry + 3 * view, 64, 32)
        self.vis_fc, self.vis_fc2 = layers(32, 32, 33), layers(32, 32, 1)
        self.rgb_fc = layers(37, 16, 8, 1)

    def forward(self, geometry: Tensor, views: Tensor, difference: Tensor, mask: Tensor) -> Tensor:
        """geometry (..., G), views (V, ..., 3 + F) with colour first, difference (V, ..., 4), mask (V, ...) -> (..., 3)."""
        mask = mask[..., None].to(views.dtype)  # (V, ..., 1)
        f = views + F.elu_(self.ray_dir_fc(difference))
        closeness = torch.exp(self.s.abs() * (difference[..., 3:] - 1))
        weight = (closeness - closeness.amin(0, keepdim=True)) * mask
        weight = weight / (weight.sum(0, keepdim=True) + 1e-8)
        mean = (weight * f).sum(0, keepdim=True)
        var = (weight * (f - mean).square()).sum(0, keepdim=True)
        shared = torch.cat([geometry[None], mean, var], -1)  # (1, ..., G + 2 (3 + F)), the same for all views
        x = F.elu(self.base_fc[2](F.elu(self._first(shared, f))))  # (V, ..., 32)
        y = F.elu(self.vis_fc(x * weight))  # (V, ..., 33)
        x = x + y[..., :32]
        visible = torch.sigmoid(self.vis_fc2(x * (torch.sigmoid(y[..., 32:]) * mask))) * mask
        logit = self.rgb_fc(torch.cat([x, visible, difference], -1)).masked_fill(mask == 0, -1e9)
        return (torch.softmax(logit, 0) * views[..., :3]).sum(0)

    def _first(self, shared: Tensor, f: Tensor) -> Tensor:
        """First layer of base_fc on [shared, f] without repeating what the views share: two thirds of its work."""
        weight, bias = (self.base_fc[0].get_parameter(name) for name in ("weight", "bias"))
        columns = shared.shape[-1]
        return linear(shared, weight[:, :columns], bias) + linear(f, weight[:, columns:])


def direction_difference(points: Tensor, seen_from: Tensor, centres: Tensor) -> Tensor:
    """How far the viewing direction is from each picture's.

    Args:
        points: (N, 3).
        seen_from: (N, 3) unit vectors from the points towards the eye (or surface normals: no dependence on the view).
        centres: (V, 3) camera centres.

    Returns:
        (V, N, 4): unit vector of the difference, and the cosine.
    """
    to_view = centres[:, None] - points
    to_view = to_view / (to_view.norm(dim=-1, keepdim=True) + 1e-6)
    gap = seen_from - to_view
    cosine = (seen_from * to_view).sum(-1, keepdim=True)
    return torch.cat([gap / gap.norm(dim=-1, keepdim=True).clamp(min=1e-6), cosine], -1)


def picture_features(points: Tensor, maps: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
    """What the pictures show at the points: points (N, 3), maps (V, C, H, W) -> (V, N, C) and valid (V, N) bool."""
    height, width = maps.shape[2:]
    sampled, valid = [], []
    for view, matrix in zip(maps, affine, strict=True):
        pixels = points @ matrix[:3, :3].T + matrix[:3, 3]
        uv = pixels[:, :2] / pixels[:, 2:].clamp(min=1e-3)
        uv = uv * (2 / uv.new_tensor([width - 1, height - 1])) - 1
        uv = torch.where(uv.abs() > 1, torch.full_like(uv, 2.0), uv)
        sampled.append(F.grid_sample(view[None], uv[None, None], align_corners=True)[0, :, 0].T)
        valid.append((uv.abs() < 1).all(1))
    return torch.stack(sampled), torch.stack(valid)
