# SPDX-License-Identifier: GPL-3.0-or-later
"""A tri-plane's features moved a little, so that the field has the outline that a picture shows.

A feed-forward model rounds off thin parts and misses the outline by a few pixels. What a ray meets is told by its densest
sample: a ray of the object has to meet the surface, one beside it must not. Only the planes move, tied to where they
were, and the field stays a tri-plane that is stored and extracted again like any other. Our choice of losses.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..fields.triplane import TriplaneField, TriplaneRule
from ..progress import Progress
from ..types import Camera

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RefinementSettings:
    """Settings of `refine_to_mask`."""

    steps: int = 45
    """Of Adam."""
    rays: int = 384
    """Per step."""
    samples: int = 40
    """Per ray, from where it enters the field's box to where it leaves."""
    side: int = 80
    """Pixels of the square window around the object whose rays are looked at."""
    rate: float = 0.02
    """Step size in standard deviations of the planes."""
    thin: float = 0.5
    """Weight against filling a ray of the object beyond the place where it meets the surface: what is missing is added thinly."""
    margin: float = 0.25
    """How far beyond the surface's level raw values are pushed, in their own units (logits, logarithms of density)."""
    tie: float = 3.0
    """Weight of the squared distance from the first planes, in variances."""
    seed: int = 0
    """Of the choice of rays."""


def refine_to_mask(
    field: TriplaneField,
    camera: Camera,
    mask: NDArray[np.float32],
    settings: RefinementSettings | None = None,
    progress: Progress | None = None,
) -> TriplaneField:
    """The field with the outline of the mask.

    Args:
        field: its decoder stays as it is.
        camera: of the picture, in the field's frame, without distortion.
        mask: (h, w) float32 0..1 over the whole picture, any size.
        settings: effort and firmness.
        progress: told how far it is; asked to cancel.
    """
    settings, progress = settings or RefinementSettings(), progress or Progress()
    rays = _Rays.of(camera.resized(mask.shape[1], mask.shape[0]), mask, field, settings)
    if not len(rays.solid):
        return field
    level = raw_level(field.rule)
    with torch.no_grad():
        rays = replace(rays, empty=rays.values(field, level) < 0)
    first = field.planes.detach().clone()
    spread = float(first.std())
    planes = first.clone().requires_grad_()
    moved = TriplaneField(planes, field.decoder, field.rule)
    optimiser = torch.optim.Adam([planes], lr=settings.rate * spread, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(settings.seed)
    weights = torch.ones(len(rays.solid))
    for step in range(settings.steps):
        progress.update(step / settings.steps)
        if step % 15 == 0:  # rays that are wrong, or near to it, are asked more often
            with torch.no_grad():
                weights = (rays.wrong(moved, level, settings).cpu() + 0.05).clamp(max=1.0)
        chosen = torch.multinomial(weights, settings.rays, replacement=True, generator=generator).to(
            first.device
        )
        loss = rays.part(chosen).wrong(moved, level, settings).mean()
        loss = loss + settings.tie * ((planes - first) / spread).square().mean()
        optimiser.zero_grad()
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * spread * min(1.0, 2.0 * (1.0 - step / settings.steps))
        optimiser.step()
    return TriplaneField(planes.detach(), field.decoder, field.rule)


def raw_level(rule: TriplaneRule) -> float:
    """The raw density at which the surface lies."""
    value = math.log(rule.level) if rule.density == "exp" else math.log(math.expm1(rule.level))
    return value - rule.density_bias


@dataclass(frozen=True)
class _Rays:
    """Samples along rays through pixels whose side of the outline is beyond doubt."""

    points: Tensor
    """(R, S, 3) float32."""
    solid: Tensor
    """(R,) bool: object."""
    empty: Tensor
    """(R, S) bool: outside the surface at first."""

    @classmethod
    def of(
        cls, camera: Camera, mask: NDArray[np.float32], field: TriplaneField, settings: RefinementSettings
    ) -> _Rays:
        rows, columns = np.nonzero(mask > 0.5)
        size = 1.25 * max(np.ptp(rows) + 1, np.ptp(columns) + 1)
        corner = np.array([columns.min() + columns.max() + 1, rows.min() + rows.max() + 1]) / 2 - size / 2
        axis = (np.arange(settings.side) + 0.5) * size / settings.side
        x, y = (plane.ravel() for plane in np.meshgrid(corner[0] + axis, corner[1] + axis))
        inside = (x > 0) & (y > 0) & (x < camera.width) & (y < camera.height)
        x, y = x[inside], y[inside]
        smooth = cv2.blur(mask, (max(1, round(size / settings.side)),) * 2)
        value = cv2.remap(
            smooth, (x - 0.5).astype(np.float32), (y - 0.5).astype(np.float32), cv2.INTER_LINEAR
        ).ravel()
        local = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], 1)
        direction = local @ camera.cam_to_world[:3, :3].T
        box = field.box.cpu().numpy().astype(np.float64)
        with np.errstate(divide="ignore"):
            ends = (box[:, None] - camera.centre) / direction  # (2, R, 3)
        near, far = np.maximum(ends.min(0).max(1), 1e-3), ends.max(0).min(1)
        sure = (far > near) & (np.abs(value - 0.5) > 0.35)
        share = (np.arange(settings.samples) + 0.5) / settings.samples
        depth = near[sure, None] + (far - near)[sure, None] * share
        points = camera.centre + direction[sure, None] * depth[..., None]
        device = field.planes.device
        return cls(
            torch.tensor(points, dtype=torch.float32, device=device),
            torch.tensor(value[sure] > 0.5, device=device),
            torch.zeros(points.shape[:2], dtype=torch.bool, device=device),
        )

    def part(self, index: Tensor) -> _Rays:
        """Those of a list of numbers."""
        return _Rays(self.points[index], self.solid[index], self.empty[index])

    def values(self, field: TriplaneField, level: float) -> Tensor:
        """(R, S) raw values, positive inside."""
        return field.raw(self.points.flatten(0, 1))[:, 0].view(self.points.shape[:2]) - level

    def wrong(self, field: TriplaneField, level: float, settings: RefinementSettings) -> Tensor:
        """(R,) how far each ray is from being right by the margin, 0 where it is."""
        raw = self.values(field, level)
        densest = raw.argmax(1, keepdim=True)
        meets = torch.relu(settings.margin - raw.gather(1, densest)[:, 0])
        elsewhere = (torch.arange(raw.shape[1], device=raw.device) - densest).abs() > 1
        filled = (torch.relu(raw) * (self.empty & elsewhere)).sum(1) / 4
        misses = torch.relu(raw + settings.margin).topk(4, dim=1).values.mean(1)
        return torch.where(self.solid, meets + settings.thin * filled, misses)
