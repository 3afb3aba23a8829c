# SPDX-License-Identifier: GPL-3.0-or-later
"""Zero123 as a whole: condition, guided sampling, picture. Liu et al. 2023, sections 3.2 and 3.3; latent diffusion inside.

Names and arithmetic: docs/models/zero123.md. Angles: polar from +z, azimuth counter-clockwise seen from above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..parts.transformer import VisionTransformerConfig
from ..sd_vae.network import SCALE, SDVae, VaeConfig
from .clip import VIT_L14, ClipVision
from .sampler import Draw, sample, schedule
from .unet import UNet, UNetConfig


@dataclass(frozen=True)
class Zero123Config:
    """Sizes of the four networks; defaults are the public ones."""

    image: int = 256
    """Side of the pictures, pixels."""
    unet: UNetConfig = field(default_factory=UNetConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
    clip: VisionTransformerConfig = VIT_L14
    embedding: int = 768
    """Width of CLIP's embedding."""
    scale: float = SCALE
    """Latents that are diffused = scale * posterior mean; the condition is not scaled."""


@dataclass(frozen=True)
class Condition:
    """What the denoiser knows about the picture and the wanted views."""

    context: Tensor
    """(V, 1, context): picture embedding and change of camera, projected."""
    latent: Tensor
    """(1, 4, h, w): posterior mean of the picture, not scaled."""


def pose_vector(delta_polar_deg: Tensor, delta_azimuth_deg: Tensor) -> Tensor:
    """Changes of camera (V,), target minus input -> (V, 4): polar in radians, sine and cosine of azimuth, radius (0)."""
    polar, azimuth = torch.deg2rad(delta_polar_deg), torch.deg2rad(delta_azimuth_deg)
    return torch.stack([polar, azimuth.sin(), azimuth.cos(), torch.zeros_like(polar)], -1)


class Zero123(nn.Module):
    """U-Net, autoencoder, CLIP tower and the projection that joins picture and pose."""

    def __init__(self, config: Zero123Config | None = None) -> None:
        super().__init__()
        self.config = c = config or Zero123Config()
        self.unet, self.vae = UNet(c.unet), SDVae(c.vae)
        self.clip = ClipVision(c.clip, c.embedding)
        self.cc_projection = nn.Linear(c.embedding + 4, c.unet.context)

    def condition(self, image: Tensor, poses: Tensor) -> Condition:
        """image (3, S, S) in -1..1 on white, poses (V, 4) from `pose_vector`."""
        image = image.to(self.cc_projection.weight.dtype)
        embedding = self.clip(self.clip.pixels(image[None])).expand(len(poses), -1)  # (V, embedding)
        context = self.cc_projection(torch.cat([embedding, poses.to(embedding)], -1))[:, None]
        return Condition(context, self.vae.encode(image[None]))

    def noise(self, z: Tensor, t: Tensor, known: Condition) -> Tensor:
        """Predicted noise (V, 4, h, w) with the condition."""
        return self.unet(torch.cat([z, known.latent.expand_as(z)], 1), t, known.context)

    def guided_noise(self, z: Tensor, t: Tensor, known: Condition, guidance: float) -> Tensor:
        """e_u + g (e_c - e_u); without the condition both context and latent are zero. One call of the U-Net."""
        latent, context = known.latent.expand_as(z), known.context
        x = torch.cat([torch.cat([z, z]), torch.cat([torch.zeros_like(latent), latent])], 1)  # (2V, 8, h, w)
        both = self.unet(x, torch.cat([t, t]), torch.cat([torch.zeros_like(context), context]))
        without, with_condition = both.chunk(2)
        return without + guidance * (with_condition - without)

    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents (V, 4, h, w) -> pictures (V, 3, H, W), about -1..1."""
        return self.vae.decode(z / self.config.scale)

    def views(
        self,
        image: Tensor,
        poses: Tensor,
        start: Tensor,
        draw: Draw | None,
        steps: int = 75,
        guidance: float = 3.0,
        eta: float = 1.0,
        report: Callable[[float], None] | None = None,
    ) -> Tensor:
        """Pictures from other cameras.

        Args:
            image: (3, S, S) RGB in -1..1 on white.
            poses: (V, 4) from `pose_vector`.
            start: (V, 4, S/8, S/8) unit noise.
            draw: fresh unit noise per step (`sampler.sample`).
            steps: requested; 75 runs 76.
            guidance: weight of the condition.
            eta: 1 as published; 0 makes the run deterministic.
            report: told the share of steps that are done; may raise to cancel.

        Returns:
            (V, 3, S, S) float32 RGB 0..1, whatever the dtype of the weights.
        """
        known = self.condition(image, poses)
        plan = schedule(steps, eta)
        runs, done = len(plan.timesteps) - 1, 0

        def denoise(z: Tensor, t: Tensor) -> Tensor:
            """One guided call of the U-Net, reported."""
            nonlocal done
            e = self.guided_noise(z, t, known, guidance)
            done += 1
            if report is not None:
                report(done / runs)
            return e

        z = sample(denoise, start.to(known.latent.dtype), plan, draw)
        return ((self.decode(z).float() + 1) / 2).clamp(0, 1)
