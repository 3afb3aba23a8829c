# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes of any size by sliding window: tile the box, encode each tile with its surroundings (section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...surface.mise import Mise
from ..onet.generation import Logits, evaluate, logit
from .network import ConvOccupancyNetwork

MARGIN = 0.01
"""Added around the points, scene units (published)."""
Floats = NDArray[np.float64]


def receptive_field(levels: int) -> int:
    """Voxels that a 3-D U-Net of so many levels sees: 2^(levels + 2)."""
    return 2 ** (levels + 2)


def rounded_resolution(voxels: int, levels: int) -> int:
    """`voxels` rounded up to a multiple of 2^(levels - 1), so that every pooling halves exactly."""
    step = 2 ** (levels - 1)
    return -(-voxels // step) * step


@dataclass(frozen=True)
class Tiling:
    """Tiles of a scene and the volumes that are encoded for them."""

    low: Floats
    """(3,) lowest corner of the tiled box, scene units."""
    counts: tuple[int, int, int]
    """Tiles per axis; the first axis is the slowest."""
    edge: float
    """Edge of a tile, scene units."""
    volume: float
    """Edge of the encoded volume around a tile's centre, scene units."""

    def query_volumes(self) -> Floats:
        """(N, 2, 3) lowest and highest corners of the tiles."""
        index = np.stack(np.meshgrid(*[np.arange(n) for n in self.counts], indexing="ij"), -1).reshape(-1, 3)
        low = self.low + index * self.edge
        return np.stack([low, low + self.edge], 1)

    def input_volumes(self) -> Floats:
        """(N, 2, 3) corners of the encoded volumes."""
        centre = self.query_volumes().mean(1)
        return np.stack([centre - self.volume / 2, centre + self.volume / 2], 1)


def tile_scene(points: Floats, query_voxels: int, resolution: int, unit: float) -> Tiling:
    """Tiles over the bounding box of the points, from its lowest corner.

    Args:
        points: (T, 3) scene.
        query_voxels: edge of a tile in voxels.
        resolution: edge of the encoded volume in voxels.
        unit: edge of a voxel, scene units.
    """
    low, high = points.min(0) - MARGIN, points.max(0) + MARGIN
    edge = query_voxels * unit
    counts = np.ceil((high - low) / edge).astype(int)
    return Tiling(
        low.astype(np.float64), (int(counts[0]), int(counts[1]), int(counts[2])), edge, resolution * unit
    )


@torch.no_grad()
def scene_grid(
    network: ConvOccupancyNetwork, points: Tensor, tiling: Tiling, samples: int, steps: int, threshold: float
) -> Floats:
    """Logits of the whole scene, (counts * samples * 2^steps), from one crop at a time.

    Args:
        network: a model trained on crops.
        points: (1, T, 3) float64 scene.
        tiling: from `tile_scene`.
        samples: samples per tile and axis before halving.
        steps: MISE halvings; 0: every sample is evaluated.
        threshold: probability on the surface.
    """
    n = samples * 2**steps
    out = np.empty([count * n for count in tiling.counts])
    for number, (query, volume) in enumerate(
        zip(tiling.query_volumes(), tiling.input_volumes(), strict=True)
    ):
        low, high = (torch.from_numpy(corner) for corner in volume)
        inside = ((points[0] >= low) & (points[0] < high)).all(-1)
        cloud = points[:, inside] if inside.any() else points
        grid = network.encoder.crop(cloud, low, high)

        def logits(p: Tensor, grid: Tensor = grid, low: Tensor = low, high: Tensor = high) -> Tensor:
            return network.decode_crop(p[None], grid, low, high)[0]

        i, j, k = np.unravel_index(number, tiling.counts)
        tile = _tile(logits, query[0], tiling.edge, samples, steps, threshold)
        out[i * n : (i + 1) * n, j * n : (j + 1) * n, k * n : (k + 1) * n] = tile
    return out


def scene_from_index(tiling: Tiling, samples: int, steps: int) -> tuple[Floats, float]:
    """Origin (3,) and edge of a cell of `scene_grid` in scene units: vertex = index * edge + origin."""
    longest = max(tiling.counts)
    return tiling.low, tiling.edge * longest / (longest * samples * 2**steps)


def _tile(logits: Logits, low: Floats, edge: float, samples: int, steps: int, threshold: float) -> Floats:
    """One tile, half open: its last plane belongs to its neighbour."""
    if steps == 0:
        line = np.arange(samples) * edge / samples
        lattice = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
        return evaluate(logits, torch.from_numpy(lattice + low)).reshape(samples, samples, samples)
    octree = Mise(samples, steps, logit(threshold))
    while len(index := octree.query()):
        octree.update(evaluate(logits, torch.from_numpy(low + edge * (index / octree.resolution))))
    return octree.dense()[:-1, :-1, :-1]
