# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches from the shards that are there so far, made harder the way photos are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .records import VIEWS

NEAR_POINTS, FREE_POINTS, SURFACE_POINTS = 480, 544, 320
CLOSE_SHARE, INNER_SHARE = 0.2, 0.75
"""Of the near points those within about 0.012 (whether they are inside is a guess from one picture); of the free ones those in
the object's own box rather than in the cube.
"""
PACK_SHARE = 0.65
"""Of the samples, once there are procedural objects."""


@dataclass
class Batch:
    """B pictures and what is true in their fields' frames."""

    image: Tensor
    """(B, 4, S, S) straight RGBA 0..1."""
    points: Tensor
    """(B, N, 3)."""
    distance: Tensor
    """(B, N) signed, negative inside, in half sides of the cube."""
    surface: Tensor
    """(B, M, 3)."""
    colour: Tensor
    """(B, M, 3) sRGB 0..1."""
    stance: Tensor
    """(B, 4): up, nearness."""


class Records:
    """Memory-mapped shards; `refresh` takes in new ones."""

    def __init__(self, folder: Path, *kinds: str) -> None:
        self.folder, self.kinds = folder, kinds
        self.shards: dict[str, dict[str, np.memmap]] = {kind: {} for kind in kinds}
        self.refresh()

    def refresh(self) -> None:
        for kind, known in self.shards.items():
            for path in sorted(self.folder.glob(f"{kind}-*.npy")):
                if path.name not in known:
                    known[path.name] = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return sum(len(shard) for known in self.shards.values() for shard in known.values())

    def draw(self, rng: np.random.Generator) -> np.void:
        """One record; packs come `PACK_SHARE` of the time."""
        kinds = [kind for kind in self.kinds if self.shards[kind]]
        kind = kinds[0] if len(kinds) == 1 or rng.random() < PACK_SHARE else kinds[1]
        shards = list(self.shards[kind].values())
        index = rng.integers(sum(map(len, shards)))
        for shard in shards:
            if index < len(shard):
                return shard[index]
            index -= len(shard)
        raise AssertionError("beyond the last shard")

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        return stacked([one_view(self.draw(rng), int(rng.integers(VIEWS)), rng) for _ in range(size)])


def one_view(record: np.void, view: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One picture of an object and random points, in the frame of that picture's field."""
    frame = record["frames"][view].astype(np.float32)
    per_unit = float(np.linalg.norm(frame[0, :3]))
    near = _from_halves(rng, record["near"].shape[0], NEAR_POINTS, CLOSE_SHARE)
    free = _from_halves(rng, record["free"].shape[0], FREE_POINTS, INNER_SHARE)
    surface = rng.integers(record["surface"].shape[0], size=SURFACE_POINTS)
    points = np.concatenate([record["near"][near], record["free"][free], record["surface"][surface]])
    points = points.astype(np.float32) @ frame[:, :3].T + frame[:, 3]
    distance = np.concatenate([record["near_distance"][near], record["free_distance"][free]])
    count = NEAR_POINTS + FREE_POINTS
    return {
        "image": record["pictures"][view].transpose(2, 0, 1).astype(np.float32) / 255,
        "points": points[:count],
        "distance": distance.astype(np.float32) * per_unit,
        "surface": points[count:],
        "colour": record["colour"][surface].astype(np.float32) / 255,
        "stance": np.append(record["up"][view], record["nearness"][view]).astype(np.float32),
    }


def _from_halves(rng: np.random.Generator, length: int, count: int, share: float) -> np.ndarray:
    """`count` random indices, this share of them from the first half."""
    first = round(share * count)
    draws = rng.integers(length // 2, size=count)
    draws[first:] += length // 2
    return draws


def stacked(samples: list[dict[str, np.ndarray]]) -> Batch:
    return Batch(**{key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]})


def augmented(batch: Batch, generator: torch.Generator) -> Batch:
    """Mirror; change colours together with the truth; then spoil the picture alone: crop, mask, blur, noise."""
    count = len(batch.image)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((count, *shape), generator=generator)

    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    image = torch.where(mirror[:, None, None, None] < 0, batch.image.flip(3), batch.image)
    sign = torch.stack([mirror, torch.ones_like(mirror), torch.ones_like(mirror)], 1)[:, None]
    rgb, colour = image[:, :3], batch.colour.mT[..., None]  # (B, 3, ...) both
    gain, gamma = uniform(0.75, 1.25, 1, 1, 1) * uniform(0.9, 1.1, 3, 1, 1), uniform(0.75, 1.3, 1, 1, 1)
    order = torch.stack([torch.randperm(3, generator=generator) for _ in range(count)])
    order = torch.where(uniform(0, 1, 1) < 0.35, order, torch.arange(3))
    rgb, colour = (
        (x.gather(1, order[:, :, None, None].expand_as(x)) * gain).clamp(0, 1) ** gamma for x in (rgb, colour)
    )
    image = spoiled(torch.cat([rgb, image[:, 3:]], 1), uniform, generator)
    return Batch(
        image,
        batch.points * sign,
        batch.distance,
        batch.surface * sign,
        colour[..., 0].mT,
        torch.cat([batch.stance[:, :3] * sign[:, 0], batch.stance[:, 3:]], 1),
    )


def spoiled(image: Tensor, uniform, generator: torch.Generator) -> Tensor:  # type: ignore[no-untyped-def]
    """Crops are off by up to 3 %, masks by about a pixel, photos are soft and noisy."""
    count = len(image)
    solid = torch.cat([image[:, :3] * image[:, 3:], image[:, 3:]], 1)
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = uniform(0.96, 1.05), uniform(0.96, 1.05)
    affine[:, :, 2] = uniform(-0.03, 0.03, 2)
    solid = F.grid_sample(
        solid, F.affine_grid(affine, list(solid.shape), align_corners=False), align_corners=False
    )
    soft = F.avg_pool2d(solid, 3, 1, 1)
    solid = torch.lerp(solid, soft, uniform(0, 1, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) < 0.5))
    alpha = solid[:, 3:]
    rgb = solid[:, :3] / alpha.clamp(min=1e-2)
    hard = ((soft[:, 3:] - uniform(0.25, 0.75, 1, 1, 1)) * 4 + 0.5).clamp(0, 1)
    alpha = torch.where(uniform(0, 1, 1, 1, 1) < 0.3, hard, alpha)
    noise = torch.randn(rgb.shape, generator=generator) * uniform(0, 0.04, 1, 1, 1)
    return torch.cat([(rgb + noise).clamp(0, 1), alpha], 1)
