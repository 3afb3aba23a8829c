# SPDX-License-Identifier: GPL-3.0-or-later
"""How a portrait is inverted: where it starts, how long it takes, what pictures are compared by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fit.inversion import InversionSettings, Perceptual, Portrait, Show
from ..fit.picture_distance import pyramid_distance
from ..jobs import warm
from ..models.eg3d.encoder import PoseEncoder
from ..models.heads.encoder import portrait_code
from ..models.lpips.network import Lpips
from ..progress import Progress
from ..weights.networks import load_network
from ..weights.store import installed_models
from .head_model import OpenModel, head_parser
from .live_preview import EVERY_S, LivePreview

STEPS = {"draft": 50, "normal": 110, "high": 300}
"""Of the latent; half as many tune the generator."""
SLOW_PARAMETERS = 10_000_000
"""From so many on a generator takes minutes on a processor: said to the artist."""
TOLD = 0.8
"""How far the latent that the face reader tells is gone towards, from the mean."""


def effort(quality: str, steps: int) -> InversionSettings:
    """Settings by quality, or by the artist's number of steps."""
    latent = steps or STEPS[quality]
    return InversionSettings(latent_steps=latent, tuning_steps=max(latent // 2, 1))


def starting_points(opened: OpenModel, portrait: Portrait, crop: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Latents and labels to begin at.

    The mean head from the camera that our pose encoder says. Ours: first the latent that the face reader tells. A public generator
    whose own pose encoder is installed: that says a second camera.

    Args:
        opened: the generator.
        portrait: with the pose encoder's camera.
        crop: (1, 3, P, P) -1..1 with its background, in the published crop's framing.
    """
    device = opened.device
    label = portrait.label.to(device)
    first = opened.mean_ws
    starts = [(first, label)]
    if opened.ours is not None:
        first = opened.ours.ws(portrait_code(head_parser(), crop.cpu()).to(device), TOLD)
        starts.insert(0, (first, label))
    pose = next((model for model in installed_models() if model.layout == "eg3d_encoder"), None)
    if pose is not None and not opened.bare:
        public = warm.loaded(("eg3d encoder", str(pose.path)), lambda: load_network(pose.path)[1])
        assert isinstance(public, PoseEncoder)
        side = public.config.side
        with torch.no_grad():
            told = public(F.interpolate(crop, size=(side, side), mode="bilinear", antialias=True)).label
        starts.append((first, told.to(device)))
    return starts


def distance(files: Sequence[str]) -> Perceptual:
    """LPIPS where its weights are given, else our pyramid.

    Raises:
        InputError, MissingError: those of `models.lpips.network.Lpips.from_files`.
    """
    if files:
        return warm.loaded(("lpips", *files), lambda: Lpips.from_files([Path(file) for file in files]))
    return pyramid_distance


def told_slow(opened: OpenModel, progress: Progress) -> None:
    """A word where this will take long."""
    count = sum(parameter.numel() for parameter in opened.network.parameters())
    if count > SLOW_PARAMETERS and opened.device.type == "cpu":
        progress.warning("This generator is large: on a processor the fit takes many minutes.")


def shower(folder: Path, progress: Progress) -> Show:
    """Shows a picture (1, 3, P, P) now and then."""
    preview, due = LivePreview(folder, progress), 0.0

    def show(picture: Tensor) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        due = time.monotonic() + EVERY_S
        preview.show(((picture[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).float().cpu().numpy())

    return show


def on_device(portrait: Portrait, device: torch.device) -> Portrait:
    """The same portrait there."""
    return replace(
        portrait,
        picture=portrait.picture.to(device),
        label=portrait.label.to(device),
        mask=None if portrait.mask is None else portrait.mask.to(device),
        care=None if portrait.care is None else portrait.care.to(device),
    )
