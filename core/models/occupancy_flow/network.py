# SPDX-License-Identifier: GPL-3.0-or-later
"""Occupancy Flow (Niemeyer et al., ICCV 2019): an occupancy network at t = 0 and a velocity field that moves it.

Layout of the public checkpoints of occupancy_flow. Time runs from 0 to 1; points in the object frame of ONet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..onet.decoders import DecoderConfig, decoder_config_from, decoder_from
from ..onet.encoders import ResnetPointnet, with_maximum
from ..parts.conditioned_mlp import ConditionedMlp
from ..parts.key_shapes import Shapes, count, has, under
from ..parts.resnet18 import Resnet18
from ..parts.resnet_blocks import ResnetBlockFC
from .ode import integrate

N_LATENT_BLOCKS = 3


@dataclass(frozen=True)
class VelocityConfig:
    """Widths of the velocity field."""

    hidden: int = 512
    c_dim: int = 512
    """Code of the motion."""
    z_dim: int = 0
    n_blocks: int = 5


@dataclass(frozen=True)
class EncoderConfig:
    """Widths of a point cloud encoder."""

    kind: Literal["points", "two_stream", "latent", "image"]
    code: int
    hidden: int
    dim: int = 3
    """Numbers per point: 3, or 3 per frame."""


@dataclass(frozen=True)
class FlowConfig:
    """Settings of an Occupancy Flow model; absent parts are None."""

    velocity: VelocityConfig
    decoder: DecoderConfig | None = None
    encoder: EncoderConfig | None = None
    encoder_temporal: EncoderConfig | None = None
    encoder_latent: EncoderConfig | None = None
    encoder_latent_temporal: EncoderConfig | None = None
    threshold: float = 0.3
    """Probability on the surface."""


FRAMES = 17
PUBLISHED = {
    "oflow_pcl_corr": FlowConfig(
        VelocityConfig(),
        DecoderConfig("cbatchnorm", 256, 512),
        EncoderConfig("points", 512, 512),
        EncoderConfig("points", 512, 512, 3 * FRAMES),
    ),
    "oflow_pcl": FlowConfig(
        VelocityConfig(128, 128),
        DecoderConfig("cbatchnorm", 256, 128),
        EncoderConfig("points", 128, 128),
        EncoderConfig("points", 128, 128, 3 * FRAMES),
    ),
    "oflow_generative": FlowConfig(
        VelocityConfig(128, 0, 128, 3),
        DecoderConfig("simple", 128, 0, 128),
        encoder_latent=EncoderConfig("latent", 128, 128),
        encoder_latent_temporal=EncoderConfig("latent", 128, 128, 3 * FRAMES),
    ),
    "oflow_interpolation": FlowConfig(
        VelocityConfig(), encoder_temporal=EncoderConfig("two_stream", 256, 512)
    ),
}


class TwoStreamEncoder(nn.Module):
    """One PointNet for both end clouds, codes side by side (interpolation, shape matching)."""

    def __init__(self, code: int, hidden: int) -> None:
        super().__init__()
        self.resnet_pointnet = ResnetPointnet(code, hidden)

    def forward(self, ends: Tensor) -> Tensor:
        """ends (B, 2, T, 3) -> (B, 2 code)."""
        return torch.cat([self.resnet_pointnet(ends[:, 0]), self.resnet_pointnet(ends[:, 1])], -1)


class LatentPointnet(nn.Module):
    """q(z | points) of the generative model."""

    def __init__(self, z_dim: int, hidden: int, dim: int = 3) -> None:
        super().__init__()
        self.fc_pos = nn.Linear(dim, 2 * hidden)
        self.blocks = nn.ModuleList(ResnetBlockFC(2 * hidden, hidden) for _ in range(N_LATENT_BLOCKS))
        self.fc_mean = nn.Linear(hidden, z_dim)
        self.fc_logstd = nn.Linear(hidden, z_dim)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """points (B, T, dim) -> mean and log standard deviation (B, z_dim)."""
        h = self.blocks[0](self.fc_pos(points))
        for block in list(self.blocks)[1:]:
            h = block(with_maximum(h))
        pooled = h.amax(1)
        return self.fc_mean(pooled), self.fc_logstd(pooled)


class OccupancyFlow(nn.Module):
    """Encoders of shape and motion, occupancy at t = 0, velocity field."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        v = config.velocity
        self.vector_field = ConditionedMlp(4, v.hidden, 3, v.c_dim, v.z_dim, v.n_blocks)
        if config.decoder:
            self.decoder = decoder_from(config.decoder)
        for name in ("encoder", "encoder_temporal", "encoder_latent", "encoder_latent_temporal"):
            if settings := getattr(config, name):
                self.add_module(name, encoder_from(settings))

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames (B, L, T, 3) -> code of the shape (from frame 0) and of the motion, each (B, c)."""
        shape = self.encoder(frames[:, 0]) if self.config.encoder else frames.new_zeros(len(frames), 0)
        two_stream = self.config.encoder_temporal and self.config.encoder_temporal.kind == "two_stream"
        motion: Tensor = self.encoder_temporal(frames if two_stream else stacked(frames))
        return shape, motion

    def logits(self, p: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """Occupancy logits (B, T) at t = 0."""
        out: Tensor = self.decoder(p, z, c)
        return out

    def velocity(self, t: Tensor, p: Tensor, c: Tensor | None, z: Tensor | None = None) -> Tensor:
        """t (B,), p (B, T, 3), codes (B, width) -> velocities (B, T, 3), equation 1."""
        time = t[:, None, None].expand(*p.shape[:2], 1)
        return self.vector_field(torch.cat([p, time], -1), c, z)

    def move(
        self,
        p: Tensor,
        c: Tensor,
        durations: Sequence[float],
        start: Tensor | None = None,
        tolerance: tuple[float, float] = (1e-3, 1e-5),
    ) -> tuple[Tensor, int]:
        """Carry points along the flow.

        Args:
            p: (B, T, 3).
            c: (B, width) code of the motion.
            durations: ascending, > 0.
            start: None: forward from t = 0. Otherwise (B,), the times from which each item goes *backward*.
            tolerance: relative and absolute.

        Returns:
            (B, len(durations), T, 3) and the number of evaluations of the field.
        """
        shape = p.shape

        def derivative(s: float, state: Tensor) -> Tensor:
            points = state[:, : -c.shape[1]].reshape(shape)
            t = torch.full((len(p),), s, dtype=p.dtype, device=p.device)
            v = self.velocity(t, points, c) if start is None else -self.velocity(start - t, points, c)
            return torch.cat([v.flatten(1), torch.zeros_like(c)], 1)

        state = torch.cat([p.flatten(1), c], 1)
        out, evaluations = integrate(derivative, state, [0.0, *durations], *tolerance)
        return torch.stack([s[:, : -c.shape[1]].reshape(shape) for s in out], 1), evaluations


def stacked(frames: Tensor) -> Tensor:
    """(B, L, T, 3) -> (B, T, 3 L): all positions of a point side by side."""
    return frames.transpose(1, 2).flatten(2)


def encoder_from(config: EncoderConfig) -> nn.Module:
    """The encoder of a configuration."""
    if config.kind == "image":
        return Resnet18(config.code)
    if config.kind == "two_stream":
        return TwoStreamEncoder(config.code, config.hidden)
    kind = LatentPointnet if config.kind == "latent" else ResnetPointnet
    return kind(config.code, config.hidden, config.dim)


def encoder_config_from(shapes: Shapes) -> EncoderConfig | None:
    """Settings of an encoder from its key shapes, None without any."""
    if not shapes:
        return None
    if has(shapes, "features."):
        return EncoderConfig("image", shapes["fc.weight"][0], 0)
    if has(shapes, "resnet_pointnet."):
        code, hidden = shapes["resnet_pointnet.fc_c.weight"]
        return EncoderConfig("two_stream", code, hidden)
    kind: Literal["latent", "points"] = "latent" if "fc_mean.weight" in shapes else "points"
    code, hidden = shapes["fc_mean.weight" if kind == "latent" else "fc_c.weight"]
    return EncoderConfig(kind, code, hidden, shapes["fc_pos.weight"][1])


def config_from(shapes: Shapes) -> FlowConfig:
    """Settings from the key shapes of a checkpoint."""
    field = under(shapes, "vector_field.")
    velocity = VelocityConfig(
        field["fc_p.weight"][0],
        field.get("fc_c.0.weight", (0, 0))[1],
        field.get("fc_z.0.weight", (0, 0))[1],
        count(field, "blocks.{}.fc_0.weight"),
    )
    decoder = under(shapes, "decoder.")
    names = ("encoder", "encoder_temporal", "encoder_latent", "encoder_latent_temporal")
    encoders = {name: encoder_config_from(under(shapes, f"{name}.")) for name in names}
    return FlowConfig(
        velocity,
        decoder_config_from(decoder) if decoder else None,
        encoder=encoders["encoder"],
        encoder_temporal=encoders["encoder_temporal"],
        encoder_latent=encoders["encoder_latent"],
        encoder_latent_temporal=encoders["encoder_latent_temporal"],
    )
