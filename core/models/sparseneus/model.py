# SPDX-License-Identifier: GPL-3.0-or-later
"""SparseNeuS as One-2-3-45 publishes it: pictures with cameras in the cube -1..1 -> `NeuralSurface`, one forward pass.

Loads `ckpt_215000.pth` (157 tensors of one level) in its own layout. Names and arithmetic: docs/models/one2345.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..parts.key_layout import KeyLayout, load_public
from .blending import BlendingNetwork
from .features import ConvNorm, FeaturePyramid, fuse
from .field import NeuralSurface
from .normalisation import Statistics
from .surface import SurfaceNetwork
from .volume import SparseNetwork, cost_volume

LAYOUT = KeyLayout(
    rules=[
        (r"^pyramid\.", "pyramid_feature_network."),
        (r"^compress\.", "sdf_network_lod0.compress_layer."),
        (r"^sparse\.", "sdf_network_lod0.sparse_costreg_net."),
        (r"^surface\.", "sdf_network_lod0.sdf_layer."),
        (r"^blending\.", "rendering_network_lod0."),
        (r"^variance$", "variance_network_lod0.variance"),
    ],
    optional=r"num_batches_tracked$",
    ignored=r"^(optimizer|iter_step|val_step)\b",
)


@dataclass(frozen=True)
class SparseNeuSConfig:
    """Sizes; defaults are the public ones."""

    size: tuple[int, int, int] = (96, 96, 96)
    """Voxels along x, y, z."""
    voxel: float = 2 / 95
    """Side of a voxel; index 0 lies at -1."""
    pyramid: tuple[int, int, int] = (8, 16, 32)
    """Feature channels at full, half and quarter resolution."""
    compressed: int = 16
    """Feature channels in the cost volume."""
    latent: int = 16
    """Channels of the finished volume."""
    sparse: tuple[int, int, int] = (16, 32, 64)
    """Channels of the sparse network's coarser levels."""
    hidden: int = 128
    frequencies: int = 6
    layers: int = 3
    """Linear layers of the signed distance (the public configuration says 4)."""


class SparseNeuS(nn.Module):
    """All four published networks; `reconstruct` is the whole forward pass."""

    def __init__(self, config: SparseNeuSConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SparseNeuSConfig()
        fused = sum(c.pyramid)
        self.pyramid = FeaturePyramid(c.pyramid)
        self.compress = ConvNorm(fused, c.compressed)
        self.sparse = SparseNetwork(2 * c.compressed, c.latent, c.sparse)
        self.surface = SurfaceNetwork(c.hidden, c.latent, c.frequencies, c.layers)
        self.blending = BlendingNetwork(c.latent, 3 + fused)
        self.variance = nn.Parameter(torch.tensor(0.3))

    def reconstruct(
        self, images: Tensor, affine: Tensor, centres: Tensor, statistics: Statistics = "batch"
    ) -> NeuralSurface:
        """Pictures with cameras -> signed distance and colour in the cube -1..1.

        Args:
            images: (V, 3, H, W) RGB 0..1; all views together, since they share their statistics.
            affine: (V, 4, 4) K [R | t], cube to pixels.
            centres: (V, 3) camera centres in the cube's frame.
            statistics: of the batch norms; "batch" is what the original does.
        """
        maps = fuse(images, *self.pyramid(images, statistics))  # (V, 59, H, W)
        compressed = self.compress(maps[:, 3:], statistics)  # (V, 16, H, W)
        cost, mask = cost_volume(compressed, affine, self.config.size, self.config.voxel)  # (1, 32, X, Y, Z)
        volume = self.sparse(cost, mask, statistics)  # (1, 16, X, Y, Z)
        return NeuralSurface(volume[0], mask[0], self.surface, self.blending, maps, affine, centres)

    @property
    def sharpness(self) -> Tensor:
        """Inverse width of the surface, exp(10 variance) within 1e-6 .. 1e6 (NeuS, section 3.1)."""
        return torch.exp(10 * self.variance).clamp(1e-6, 1e6)

    @classmethod
    def from_public(cls, tensors: Mapping[str, Any], config: SparseNeuSConfig | None = None) -> SparseNeuS:
        """The networks with the weights of a public file: nested dictionaries, or names joined by dots.

        Raises:
            InputError: WEIGHTS_MISMATCH when names or shapes differ.
        """
        flat: dict[str, Tensor] = {}
        for name, value in tensors.items():
            if isinstance(value, Tensor):
                flat[name] = value
            elif isinstance(value, Mapping) and name != "optimizer":
                flat |= {f"{name}.{inner}": t for inner, t in value.items() if isinstance(t, Tensor)}
        with torch.device("meta"):
            model = cls(config)
        load_public(model, flat, LAYOUT)
        return model
