# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoders of Occupancy Networks: points and codes to occupancy logits (Mescheder et al. 2019, section 4 and supplementary 1).

All take p (B, T, 3), z (B, z_dim) and c (B, c_dim), widths possibly zero, and give logits (B, T); the probability is
their sigmoid. Conditional batch norm needs eval mode outside training: the public models use running statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ..parts.key_shapes import Shapes, count, has
from ..parts.resnet_blocks import (
    ConditionalBatchNorm1d,
    CResnetBlockConv1d,
    PointBatchNorm,
    Pointwise,
    ResnetBlockConv1d,
    ResnetBlockFC,
)

DecoderKind = Literal["cbatchnorm", "simple", "batchnorm", "cbatchnorm2", "cbatchnorm_noresnet"]
N_BLOCKS = 5


@dataclass(frozen=True)
class DecoderConfig:
    """Widths of a decoder."""

    kind: DecoderKind
    hidden: int
    """Channels of the trunk."""
    c_dim: int
    """Width of the condition, 0: none."""
    z_dim: int = 0
    """Width of the latent code, 0: none."""
    legacy: bool = False
    """Conditional batch norm stored as Linear layers (the first public models)."""
    leaky: bool = False
    """Slope 0.2 before the last layer; not visible in the weights."""
    n_blocks: int = N_BLOCKS


class DecoderCBatchNorm(nn.Module):
    """`cbatchnorm`, the published decoder: five blocks whose batch norms are conditioned on c."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.leak, self.n_blocks = 0.2 * config.leaky, config.n_blocks
        self.fc_p = Pointwise(3, config.hidden)
        self.fc_z = nn.Linear(config.z_dim, config.hidden) if config.z_dim else None
        for i in range(config.n_blocks):
            self.add_module(
                f"block{i}", CResnetBlockConv1d(config.c_dim, config.hidden, legacy=config.legacy)
            )
        self.bn = ConditionalBatchNorm1d(config.c_dim, config.hidden, config.legacy)
        self.fc_out = Pointwise(config.hidden, 1)

    def forward(self, p: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """p (B, T, 3), z (B, z_dim), c (B, c_dim) -> logits (B, T)."""
        h = self.fc_p(p)  # (B, T, H)
        if self.fc_z is not None:
            h = h + self.fc_z(z)[:, None]
        for i in range(self.n_blocks):
            h = self.get_submodule(f"block{i}")(h, c)
        logits: Tensor = self.fc_out(F.leaky_relu(self.bn(h, c), self.leak))
        return logits[..., 0].float()


class DecoderSimple(nn.Module):
    """`simple`: codes are added once, five residual blocks (unconditional models)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.leak, self.n_blocks = 0.2 * config.leaky, config.n_blocks
        self.fc_p = nn.Linear(3, config.hidden)
        self.fc_z = nn.Linear(config.z_dim, config.hidden) if config.z_dim else None
        self.fc_c = nn.Linear(config.c_dim, config.hidden) if config.c_dim else None
        for i in range(config.n_blocks):
            self.add_module(f"block{i}", ResnetBlockFC(config.hidden))
        self.fc_out = nn.Linear(config.hidden, 1)

    def forward(self, p: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """p (B, T, 3), z (B, z_dim), c (B, c_dim) -> logits (B, T)."""
        h = self.fc_p(p)  # (B, T, H)
        if self.fc_z is not None:
            h = h + self.fc_z(z)[:, None]
        if self.fc_c is not None:
            h = h + self.fc_c(c)[:, None]
        for i in range(self.n_blocks):
            h = self.get_submodule(f"block{i}")(h)
        logits: Tensor = self.fc_out(F.leaky_relu(h, self.leak))
        return logits[..., 0]


class DecoderBatchNorm(nn.Module):
    """`batchnorm`: as `simple` with plain batch norms."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.leak, self.n_blocks = 0.2 * config.leaky, config.n_blocks
        self.fc_p = Pointwise(3, config.hidden)
        self.fc_z = nn.Linear(config.z_dim, config.hidden) if config.z_dim else None
        self.fc_c = nn.Linear(config.c_dim, config.hidden) if config.c_dim else None
        for i in range(config.n_blocks):
            self.add_module(f"block{i}", ResnetBlockConv1d(config.hidden))
        self.bn = PointBatchNorm(config.hidden)
        self.fc_out = Pointwise(config.hidden, 1)

    def forward(self, p: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """p (B, T, 3), z (B, z_dim), c (B, c_dim) -> logits (B, T)."""
        h = self.fc_p(p)  # (B, T, H)
        if self.fc_z is not None:
            h = h + self.fc_z(z)[:, None]
        if self.fc_c is not None:
            h = h + self.fc_c(c)[:, None]
        for i in range(self.n_blocks):
            h = self.get_submodule(f"block{i}")(h)
        logits: Tensor = self.fc_out(F.leaky_relu(self.bn(h), self.leak))
        return logits[..., 0]


class DecoderCBatchNorm2(nn.Module):
    """`cbatchnorm2`: the latent code is added to the condition instead of to the features."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.fc_z = nn.Linear(config.z_dim, config.c_dim) if config.z_dim else None
        self.conv_p = Pointwise(3, config.hidden)
        self.blocks = nn.ModuleList(
            CResnetBlockConv1d(config.c_dim, config.hidden) for _ in range(config.n_blocks)
        )
        self.bn = ConditionalBatchNorm1d(config.c_dim, config.hidden)
        self.conv_out = Pointwise(config.hidden, 1)

    def forward(self, p: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """p (B, T, 3), z (B, z_dim), c (B, c_dim) -> logits (B, T)."""
        c = c if self.fc_z is None else c + self.fc_z(z)
        h = self.conv_p(p)  # (B, T, H)
        for block in self.blocks:
            h = block(h, c)
        logits: Tensor = self.conv_out(F.relu(self.bn(h, c)))
        return logits[..., 0]


class DecoderCBatchNormNoResnet(nn.Module):
    """`cbatchnorm_noresnet`: five layers without shortcuts."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.n_blocks = config.n_blocks
        self.fc_p = Pointwise(3, config.hidden)
        self.fc_z = nn.Linear(config.z_dim, config.hidden) if config.z_dim else None
        for i in range(config.n_blocks):
            self.add_module(f"fc_{i}", Pointwise(config.hidden, config.hidden))
        for i in range(config.n_blocks + 1):
            self.add_module(f"bn_{i}", ConditionalBatchNorm1d(config.c_dim, config.hidden, config.legacy))
        self.fc_out = Pointwise(config.hidden, 1)
        self.leak = 0.2 * config.leaky

    def forward(self, p: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """p (B, T, 3), z (B, z_dim), c (B, c_dim) -> logits (B, T)."""
        h = self.fc_p(p)  # (B, T, H)
        if self.fc_z is not None:
            h = h + self.fc_z(z)[:, None]
        for i in range(self.n_blocks):
            h = self.get_submodule(f"fc_{i}")(F.leaky_relu(self.get_submodule(f"bn_{i}")(h, c), self.leak))
        last = self.get_submodule(f"bn_{self.n_blocks}")
        logits: Tensor = self.fc_out(F.leaky_relu(last(h, c), self.leak))
        return logits[..., 0]


DECODERS: dict[str, type[nn.Module]] = {
    "cbatchnorm": DecoderCBatchNorm,
    "simple": DecoderSimple,
    "batchnorm": DecoderBatchNorm,
    "cbatchnorm2": DecoderCBatchNorm2,
    "cbatchnorm_noresnet": DecoderCBatchNormNoResnet,
}


def decoder_from(config: DecoderConfig) -> nn.Module:
    """The decoder of a configuration, freshly initialised."""
    return DECODERS[config.kind](config)


def decoder_config_from(shapes: Shapes, leaky: bool = False) -> DecoderConfig:
    """Settings of a decoder from its key shapes (without `decoder.`)."""
    kind: DecoderKind
    if "conv_p.weight" in shapes:
        kind = "cbatchnorm2"
    elif "fc_0.weight" in shapes:
        kind = "cbatchnorm_noresnet"
    elif len(shapes["fc_p.weight"]) == 2:
        kind = "simple"
    else:
        kind = "cbatchnorm" if has(shapes, "bn.bn.") else "batchnorm"
    hidden = shapes["conv_p.weight" if kind == "cbatchnorm2" else "fc_p.weight"][0]
    gamma = [key for key in shapes if key.endswith("_gamma.weight")]
    c_dim = shapes[gamma[0]][1] if gamma else shapes.get("fc_c.weight", (0, 0))[1]
    blocks = {"cbatchnorm2": "blocks.{}.fc_0.weight", "cbatchnorm_noresnet": "fc_{}.weight"}
    return DecoderConfig(
        kind=kind,
        hidden=hidden,
        c_dim=c_dim,
        z_dim=shapes.get("fc_z.weight", (0, 0))[1],
        legacy=any("fc_gamma" in key for key in gamma),
        leaky=leaky,
        n_blocks=count(shapes, blocks.get(kind, "block{}.fc_0.weight")),
    )
