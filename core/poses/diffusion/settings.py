# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the diffusion-wrapped field, and the presets that measured best on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .cameras import ROWS


@dataclass(frozen=True)
class DiffusionSettings:
    """One run. Numbers without a source are our choice for a CPU (docs/poses-diffusion.md has the measurements)."""

    orbit: bool = True
    """Candidates on a sphere around an object; False: one free camera, forward-facing scene."""
    candidates: int = 12
    """On the sphere: 4, 8, 12, 18 or 24."""
    denoise: bool = True
    """False: the autoencoder of the comparison, the same network on clean pictures."""
    survey: bool = True
    """Orbit: find the first field by comparing all pictures with renders from all around; False: by probes alone."""
    restarts: int = 3
    """Starts of which the one that explains the pictures best goes on."""
    canvas: int = 32
    """Side of the pictures that the encoder sees, pixels."""
    width: int = 16
    """Channels of the encoder's first level."""
    blocks: int = 1
    """Residual blocks per level of the encoder."""
    steps: int = 3000
    """Training steps of field and encoder together."""
    images: int = 4
    """Pictures per step, each with two draws of noise."""
    rays: int = 128
    """Rays with gradient per draw."""
    probe_rays: int = 32
    """Rays per draw and candidate, without gradient."""
    samples: int = 32
    """Per ray."""
    polish_steps: int = 600
    """Steps after the read-out in which cameras and field move freely, without the encoder; 0: none."""
    cells: int = 96
    """Cells along a side of the finished field."""
    encoder_rate: float = 3e-4
    field_rate: float = 0.02
    classify: float = 0.01
    """Weight of the classification loss (the paper's lambda)."""
    agree: float = 0.1
    """Weight of the agreement of two draws of a picture."""
    smooth: float = 0.02
    """Weight of the field's roughness; the preset for forward-facing scenes has 4, without which their fields explain
    parallax by haze (median 1.3 degrees instead of 0.5)."""
    uniform_steps: bool = False
    """Draw noise levels as the plain objective does, without preference for little noise."""
    weighted: bool = True
    """Weigh errors as the objective in the noise does, signal to noise up to 5; False: all alike."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.candidates not in ROWS:
            raise ValueError(f"candidates is {self.candidates}, not one of {sorted(ROWS)}")
        if self.canvas < 16 or self.canvas & (self.canvas - 1):
            raise ValueError(f"canvas is {self.canvas}, not a power of two from 16")


def preset(orbit: bool, quality: str, seed: int) -> DiffusionSettings:
    """Settings for `draft`, `normal` or `high`."""
    base = DiffusionSettings(orbit=orbit, seed=seed)
    if not orbit:
        base = replace(base, survey=False, restarts=1, samples=48, smooth=4.0, steps=1200, polish_steps=1500)
    if quality == "draft":
        return replace(base, steps=base.steps // 3, polish_steps=base.polish_steps // 2, cells=64)
    if quality == "high":
        return replace(
            base, steps=base.steps * 3, polish_steps=2 * base.polish_steps, cells=128, width=32, blocks=2
        )
    return base
