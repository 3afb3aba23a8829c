# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches for the face parser: heads turned, shifted and scaled over made-up backgrounds, spoiled as photos are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from maquette.core.models.eg3d.cameras import FOCAL
from maquette.core.models.heads.codes import WIDTH
from maquette.core.models.heads.parser import ANGLE, SIDE
from torch import Tensor

from .records import VIEWS

EMPTY, ASIDE = 0.08, 0.06
"""Shares of pictures without a head, and with one whose middle lies outside."""


@dataclass
class Batch:
    """B pictures and what they show."""

    image: Tensor
    """(B, 3, S, S) float32 sRGB 0..1"""
    parts: Tensor
    """(B, S, S) int64"""
    view: Tensor
    """(B, 7), see `parser.VIEW`; the first is 1 where a face is to be found, else 0"""
    code: Tensor
    """(B, WIDTH) the generator's code; NaN where none is known, or what is seen is its mirror image or small"""


class Records:
    """Shards of one kind in memory (82 KB a picture); `refresh` takes in new ones."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.names: list[str] = []
        self.pictures: list[Tensor] = []  # a shard's (N, 5, side, side) uint8: RGBA, parts
        self.cameras: list[Tensor] = []  # (N, 3): zoom, yaw, elevation
        self.codes: list[Tensor] = []  # (N, WIDTH), NaN where unknown
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(self.folder.glob(f"{self.kind}*.npy")):
            if path.name not in self.names:
                shard = np.load(path)
                both = np.concatenate([shard["pictures"], shard["parts"][..., None]], -1)
                zoom = shard["cameras"][..., 16:17] / FOCAL
                self.names.append(path.name)
                self.pictures.append(
                    torch.from_numpy(both.reshape(-1, *both.shape[2:]).transpose(0, 3, 1, 2).copy())
                )
                self.cameras.append(
                    torch.from_numpy(np.concatenate([zoom, shard["angles"]], -1).reshape(-1, 3))
                )
                codes = torch.from_numpy(shard["traits"][:, :WIDTH].copy()).repeat_interleave(VIEWS, 0)
                self.codes.append(codes if "_coded" in path.name else torch.full_like(codes, math.nan))

    def __len__(self) -> int:
        """Pictures."""
        return sum(len(shard) for shard in self.pictures)

    def rows(self, index: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (B, 5, side, side) uint8, cameras (B, 3) and codes (B, WIDTH) by number."""
        bounds = np.cumsum([0, *(len(shard) for shard in self.pictures)])
        shards = np.searchsorted(bounds, index, side="right") - 1
        places = list(zip(shards.tolist(), (index - bounds[shards]).tolist(), strict=True))
        pictures, cameras, codes = (
            torch.stack([kept[s][i] for s, i in places]) for kept in (self.pictures, self.cameras, self.codes)
        )
        return pictures, cameras, codes

    def portraits(self, heads: int) -> np.ndarray:
        """Numbers of the first portrait of each of the first heads."""
        return np.arange(heads) * VIEWS


def made(
    pictures: Tensor,
    cameras: Tensor,
    codes: Tensor,
    generator: torch.Generator,
    easy: bool = False,
    found: bool = False,
) -> Batch:
    """A batch from packed pictures.

    Args:
        pictures, cameras, codes: rows of `Records`.
        generator: of everything random.
        easy: EG3D's crops over backgrounds, not turned, shifted or spoiled.
        found: portraits, in windows that a finder has laid around them already: nearly upright, in the middle, as large as
            `faces.FILLS` say.
    """
    count = len(pictures)
    uniform = lambda low, high, *shape: low + (high - low) * torch.rand((count, *shape), generator=generator)  # noqa: E731
    normal = lambda *shape: torch.randn((count, *shape), generator=generator)  # noqa: E731
    zoom, yaw, elevation = cameras.unbind(1)
    portrait = zoom > 0.7
    if easy:
        size, roll, shift, mirror = (
            torch.ones(count),
            torch.zeros(count),
            torch.zeros(count, 2),
            torch.zeros(count) > 0,
        )
    elif found:
        size, roll, shift = uniform(0.74, 0.98), normal() * 5, normal(2) * 0.03
        mirror = uniform(0, 1) < 0.5
    else:
        size = torch.where(portrait, uniform(0.72, 1.15), zoom * uniform(0.95, 2.0))
        roll = (normal() * 10).clamp(-35, 35)
        room = (1 - size[:, None]).clamp(min=0) * 0.8
        shift = torch.where(portrait[:, None], normal(2) * 0.07, uniform(-1, 1, 2) * room)
        aside = uniform(0, 1) < ASIDE
        far = torch.sign(normal(2)) * uniform(1.05, 1.5, 2) * torch.where(uniform(0, 1, 1) < 0.5, 1.0, 0.3)
        shift = torch.where((aside & (far.abs().amax(1) > 1))[:, None], far, shift)
        mirror = uniform(0, 1) < 0.5
    share = (zoom / size)[:, None, None]  # of the source's side that the picture shows
    turn = torch.deg2rad(roll)
    rotation = torch.stack([turn.cos(), turn.sin(), -turn.sin(), turn.cos()], 1).view(-1, 2, 2)
    # Output place o -> source place: turned back about the crop's middle, which is the source's.
    matrix = rotation * share
    flip = torch.where(mirror, -1.0, 1.0)
    matrix = matrix * torch.stack([flip, torch.ones(count)], 1)[:, :, None]
    grid = F.affine_grid(
        torch.cat([matrix, -(matrix @ shift[..., None])], 2), [count, 1, SIDE, SIDE], align_corners=False
    )
    rgba = pictures[:, :4].float() / 255
    solid = F.grid_sample(torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1), grid, align_corners=False)
    parts = F.grid_sample(pictures[:, 4:].float(), grid, mode="nearest", align_corners=False)[:, 0].long()
    empty = (uniform(0, 1) < EMPTY) & torch.tensor(not (easy or found))
    solid[empty], parts[empty] = 0, 0
    colour = (
        (uniform(0.75, 1.25, 1, 1, 1) * uniform(0.92, 1.08, 3, 1, 1))
        if not easy
        else torch.ones(count, 1, 1, 1)
    )
    image = solid[:, :3] * colour + backgrounds(count, generator) * (1 - solid[:, 3:])
    there = ~empty & (shift.abs().amax(1) < 1)
    view = torch.stack(
        [
            there.float(),
            *shift.T,
            size.log(),
            roll / ANGLE,
            torch.where(mirror, -yaw, yaw) / ANGLE,
            elevation / ANGLE,
        ],
        1,
    )
    code = torch.where((~mirror & portrait & there)[:, None], codes, math.nan)
    image = image.clamp(0, 1)
    return Batch(image if easy else spoiled(image, uniform, generator), parts, view, code)


def backgrounds(count: int, generator: torch.Generator) -> Tensor:
    """(count, 3, S, S) 0..1: noise of several scales about a colour, now and then with hard edges."""
    out = torch.rand((count, 3, 1, 1), generator=generator)
    for side in (2, 4, 9, 24):
        noise = torch.randn((count, 3, side, side), generator=generator)
        grey = noise.mean(1, keepdim=True).expand_as(noise)
        noise = torch.lerp(noise, grey * 1.7, torch.rand((count, 1, 1, 1), generator=generator))
        strength = torch.rand((count, 1, 1, 1), generator=generator) ** 2 * 0.35
        hard = torch.rand((count, 1, 1, 1), generator=generator) < 0.25
        smooth = F.interpolate(noise, (SIDE, SIDE), mode="bilinear", align_corners=False)
        out = out + strength * torch.where(hard, smooth.sign(), smooth)
    return out.clamp(0, 1)


def spoiled(image: Tensor, uniform, generator: torch.Generator) -> Tensor:  # type: ignore[no-untyped-def]
    """Contrast, white balance, loss of colour, softness, noise."""
    image = image ** uniform(0.7, 1.4, 1, 1, 1) * uniform(0.9, 1.1, 3, 1, 1)
    grey = image.mean(1, keepdim=True)
    image = torch.lerp(image, grey.expand_as(image), (uniform(-0.3, 1, 1, 1, 1) ** 3).clamp(-0.3, 1))
    soft = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    image = torch.lerp(image, soft, uniform(0, 1, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) < 0.5))
    return (image + torch.randn(image.shape, generator=generator) * uniform(0, 0.05, 1, 1, 1) ** 1.0).clamp(
        0, 1
    )


def turned_back(view: Tensor) -> tuple[float, float, float]:
    """Roll, yaw, elevation of one view (7,), degrees."""
    roll, yaw, elevation = (float(v) * ANGLE for v in view[4:])
    return roll, math.fmod(yaw, 360), elevation
