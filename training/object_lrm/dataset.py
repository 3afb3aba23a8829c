# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches from the shards that are there so far, made harder the way photos are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .records import SIDE, VIEWS

PACK_SHARE = 0.5
"""Of the samples, once there are procedural objects."""


@dataclass
class Batch:
    """B pictures and what is true behind their pixels; S is half the records' side."""

    image: Tensor
    """(B, 4, S, S) straight RGBA 0..1."""
    depth: Tensor
    """(B, 2, S, S): where rays enter and leave; 0 beside the object."""
    hit: Tensor
    """(B, S, S) bool: the object's pixels."""
    behind: Tensor
    """(B, 3, S, S) sRGB 0..1."""
    stance: Tensor
    """(B, 4): up, nearness."""

    def unpacked(self) -> Batch:
        """Float32 from what `halved` keeps in memory: bytes and half precision."""
        return Batch(
            self.image.float() / 255, self.depth.float(), self.hit, self.behind.float() / 255, self.stance
        )

    def rows(self, index: Tensor | list[int]) -> Batch:
        """Some of them."""
        return Batch(*(getattr(self, part.name)[index] for part in fields(self)))

    @classmethod
    def joined(cls, parts: list[Batch]) -> Batch:
        """One after the other."""
        return cls(*(torch.cat([getattr(b, part.name) for b in parts]) for part in fields(cls)))


def halved(shard: np.ndarray) -> Batch:
    """All views of a shard's objects, object by object, at half the side, packed (see `Batch.unpacked`).

    Pixels of the object are those with at least two of their four on it; depths and colours behind are the mean of these.
    """
    side = SIDE // 2
    rgba = shard["pictures"].reshape(-1, SIDE, SIDE, 4).astype(np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]
    rgba = rgba.reshape(-1, side, 2, side, 2, 4).mean((2, 4))
    rgba[..., :3] /= np.maximum(rgba[..., 3:], 1e-3)
    depth = np.stack([shard["front"], shard["back"]], 2).reshape(-1, 2, side, 2, side, 2).astype(np.float32)
    known = ~np.isnan(depth)
    count = known.sum((3, 5))
    hit = count[:, 0] >= 2
    mean = np.where(known, depth, 0).sum((3, 5)) / np.maximum(count, 1) * hit[:, None]
    on_it = known[:, :1].transpose(0, 2, 3, 4, 5, 1)  # (N, side, 2, side, 2, 1)
    behind = np.where(on_it, shard["behind"].reshape(-1, side, 2, side, 2, 3), 0).sum(
        (2, 4), dtype=np.float32
    )
    behind = np.rint(behind / np.maximum(count[:, 0, ..., None], 1)).astype(np.uint8).transpose(0, 3, 1, 2)
    stance = np.concatenate([shard["up"], shard["nearness"][..., None]], -1).reshape(-1, 4)
    packed = (np.rint(rgba * 255).astype(np.uint8).transpose(0, 3, 1, 2), mean.astype(np.float16))
    return Batch(*(torch.from_numpy(np.ascontiguousarray(x)) for x in (*packed, hit, behind, stance)))


class Records:
    """Shards of some kinds, held in memory (28 KB a picture); `refresh` takes in new ones."""

    def __init__(self, folder: Path, *kinds: str) -> None:
        self.folder, self.kinds = folder, kinds
        self.shards: dict[str, dict[str, Batch]] = {kind: {} for kind in kinds}
        self.refresh()

    def refresh(self) -> None:
        for kind, known in self.shards.items():
            for path in sorted(self.folder.glob(f"{kind}*.npy")):
                if path.name not in known:
                    known[path.name] = halved(np.load(path))

    def __len__(self) -> int:
        """Pictures."""
        return sum(len(shard.hit) for known in self.shards.values() for shard in known.values())

    def draw(self, rng: np.random.Generator) -> Batch:
        """One picture; packs come `PACK_SHARE` of the time."""
        kinds = [kind for kind in self.kinds if self.shards[kind]]
        kind = kinds[0] if len(kinds) == 1 or rng.random() < PACK_SHARE else kinds[1]
        shards = list(self.shards[kind].values())
        index = int(rng.integers(sum(len(shard.hit) for shard in shards)))
        for shard in shards:
            if index < len(shard.hit):
                return shard.rows([index])
            index -= len(shard.hit)
        raise AssertionError("beyond the last shard")

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        return Batch.joined([self.draw(rng) for _ in range(size)]).unpacked()

    def firsts(self, kind: str, count: int, view: int = 0) -> Batch:
        """One view each of the first `count` objects of a kind."""
        whole = Batch.joined(list(self.shards[kind].values()))
        return whole.rows(torch.arange(view, len(whole.hit), VIEWS)[:count]).unpacked()


def augmented(batch: Batch, generator: torch.Generator) -> Batch:
    """Mirror; change colours together with the truth; then spoil the picture alone: mask, blur, noise."""
    count = len(batch.image)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((count, *shape), generator=generator)

    mirror = uniform(0, 1) < 0.5

    def mirrored(maps: Tensor) -> Tensor:
        return torch.where(mirror.view(-1, *[1] * (maps.ndim - 1)), maps.flip(-1), maps)

    image, behind = mirrored(batch.image), mirrored(batch.behind)
    gain, gamma = uniform(0.75, 1.25, 1, 1, 1) * uniform(0.9, 1.1, 3, 1, 1), uniform(0.75, 1.3, 1, 1, 1)
    order = torch.stack([torch.randperm(3, generator=generator) for _ in range(count)])
    order = torch.where(uniform(0, 1, 1) < 0.35, order, torch.arange(3))
    rgb, behind = (
        (x.gather(1, order[:, :, None, None].expand_as(x)) * gain).clamp(0, 1) ** gamma
        for x in (image[:, :3], behind)
    )
    sign = torch.ones(count, 4)
    sign[mirror, 0] = -1.0
    return Batch(
        spoiled(torch.cat([rgb, image[:, 3:]], 1), uniform, generator),
        mirrored(batch.depth),
        mirrored(batch.hit),
        behind,
        batch.stance * sign,
    )


def spoiled(image: Tensor, uniform, generator: torch.Generator) -> Tensor:  # type: ignore[no-untyped-def]
    """Masks are off by about a pixel, photos are soft and noisy."""
    solid = torch.cat([image[:, :3] * image[:, 3:], image[:, 3:]], 1)
    soft = F.avg_pool2d(solid, 3, 1, 1)
    solid = torch.lerp(solid, soft, uniform(0, 1, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) < 0.5))
    alpha = solid[:, 3:]
    rgb = solid[:, :3] / alpha.clamp(min=1e-2)
    hard = ((soft[:, 3:] - uniform(0.25, 0.75, 1, 1, 1)) * 4 + 0.5).clamp(0, 1)
    alpha = torch.where(uniform(0, 1, 1, 1, 1) < 0.3, hard, alpha)
    noise = torch.randn(rgb.shape, generator=generator) * uniform(0, 0.04, 1, 1, 1)
    return torch.cat([(rgb + noise).clamp(0, 1), alpha], 1)
