# SPDX-License-Identifier: GPL-3.0-or-later
"""Occupancy Networks (Mescheder et al., CVPR 2019): a code and a point to the probability of being inside.

Object frame: longest edge of the bounding box 1, centred at the origin, y up (ShapeNet). Layout of the public
checkpoints of occupancy_networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..parts.key_shapes import Shapes, has, under
from ..parts.resnet18 import Resnet18
from .decoders import DecoderConfig, decoder_config_from, decoder_from
from .encoders import LatentEncoder, ResnetPointnet, SimplePointnet, VoxelEncoder

EncoderKind = Literal["resnet18", "pointnet_resnet", "pointnet_simple", "voxel_simple"]


@dataclass(frozen=True)
class OnetConfig:
    """Settings of an Occupancy Network."""

    decoder: DecoderConfig
    encoder: EncoderKind | None = None
    """None: unconditional."""
    encoder_hidden: int = 512
    """Width of the point cloud encoders."""
    latent_hidden: int = 0
    """Width of the latent encoder, 0: none."""
    threshold: float = 0.2
    """Probability on the surface at test time."""

    @property
    def c_dim(self) -> int:
        """Width of the condition."""
        return self.decoder.c_dim

    @property
    def z_dim(self) -> int:
        """Width of the latent code."""
        return self.decoder.z_dim


PUBLISHED = {
    "onet_img": OnetConfig(DecoderConfig("cbatchnorm", 256, 256), "resnet18"),
    "onet_img_legacy": OnetConfig(DecoderConfig("cbatchnorm", 256, 256, legacy=True), "resnet18"),
    "onet_pointcloud": OnetConfig(DecoderConfig("cbatchnorm", 256, 512), "pointnet_resnet", 512),
    "onet_voxels": OnetConfig(DecoderConfig("cbatchnorm", 256, 256), "voxel_simple"),
    "onet_uncond": OnetConfig(DecoderConfig("simple", 128, 0, 128), None, latent_hidden=128),
}
"""The public configurations; `keys_onet` of the parity data lists their keys."""


class OccupancyNetwork(nn.Module):
    """Encoder, decoder and, for variational models, the latent encoder."""

    def __init__(self, config: OnetConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = decoder_from(config.decoder)
        c_dim, hidden = config.c_dim, config.encoder_hidden
        if config.encoder == "resnet18":
            self.encoder: nn.Module = Resnet18(c_dim)
        elif config.encoder == "pointnet_resnet":
            self.encoder = ResnetPointnet(c_dim, hidden)
        elif config.encoder == "pointnet_simple":
            self.encoder = SimplePointnet(c_dim, hidden)
        elif config.encoder == "voxel_simple":
            self.encoder = VoxelEncoder(c_dim)
        if config.latent_hidden:
            self.encoder_latent = LatentEncoder(
                config.z_dim, c_dim, config.latent_hidden, config.decoder.leaky
            )

    def encode(self, inputs: Tensor | None, batch: int = 1) -> Tensor:
        """Picture, points or voxels -> condition (B, c_dim); (batch, 0) for unconditional models."""
        if self.config.encoder is None or inputs is None:
            return self.decoder.fc_p.weight.new_zeros(batch, 0)
        c: Tensor = self.encoder(inputs)
        return c

    def decode(self, p: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """p (B, T, 3), z (B, z_dim), c (B, c_dim) -> logits (B, T)."""
        logits: Tensor = self.decoder(p, z, c)
        return logits

    def prior(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """z (B, z_dim): drawn from N(0, 1) with a generator, zero without (the published default at test time)."""
        shape = (batch, self.config.z_dim)
        z = torch.zeros(shape) if generator is None else torch.randn(shape, generator=generator)
        return z.to(next(self.parameters()))

    def forward(self, p: Tensor, inputs: Tensor | None) -> Tensor:
        """Points (B, T, 3) and the input -> logits (B, T) at z = 0."""
        return self.decode(p, self.prior(len(p)), self.encode(inputs, len(p)))


def kl_per_item(mean: Tensor, logstd: Tensor) -> Tensor:
    """KL(N(mean, exp(logstd)^2) || N(0, 1)) summed over the code, (B,)."""
    return (0.5 * (torch.exp(2.0 * logstd) + mean.square() - 1.0) - logstd).sum(-1)


def reconstruction_per_item(logits: Tensor, occupancies: Tensor) -> Tensor:
    """Binary cross entropy summed (not averaged) over the points, (B,): first term of equation 3 and 4."""
    return F.binary_cross_entropy_with_logits(logits, occupancies, reduction="none").sum(-1)


def variational_loss(
    network: OccupancyNetwork, p: Tensor, occupancies: Tensor, c: Tensor, noise: Tensor
) -> Tensor:
    """Equation 4: mean over the batch of reconstruction + KL, with z = mean + exp(logstd) noise.

    Args:
        network: a model with a latent encoder.
        p, occupancies: (B, T, 3) and (B, T) training points.
        c: (B, c_dim) condition.
        noise: (B, z_dim) from N(0, 1).
    """
    mean, logstd = network.encoder_latent(p, occupancies, c)
    logits = network.decode(p, mean + torch.exp(logstd) * noise, c)
    return reconstruction_per_item(logits, occupancies).mean() + kl_per_item(mean, logstd).mean()


def config_from(shapes: Shapes) -> OnetConfig:
    """Settings of an Occupancy Network from the key shapes of its checkpoint."""
    decoder = decoder_config_from(under(shapes, "decoder."))
    encoder: EncoderKind | None = None
    hidden = OnetConfig.encoder_hidden
    if has(shapes, "encoder.features."):
        encoder = "resnet18"
    elif "encoder.conv_in.weight" in shapes:
        encoder = "voxel_simple"
    elif "encoder.fc_pos.weight" in shapes:
        encoder = "pointnet_resnet" if has(shapes, "encoder.block_0.") else "pointnet_simple"
        hidden = shapes["encoder.fc_pos.weight"][0] // 2
    latent = shapes.get("encoder_latent.fc_pos.weight", (0,))[0]
    return OnetConfig(decoder, encoder, hidden, latent)
