# SPDX-License-Identifier: GPL-3.0-or-later
"""A portrait's latent, camera and generator: pivotal tuning inversion (Roich et al. 2021), as 3D-aware blending uses it.

First the latent (one row for all layers) and the camera, with the generator frozen; then the generator around that pivot,
held to what it was at other latents. Differences from the published program, all our choice: fewer steps, the first of them at
few rays; the camera is refined; the distance is a pyramid of colours and gradients unless LPIPS is given; the
regulariser is asked every few steps, at as many times its weight.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.eg3d.generator import Eg3d
from ..models.eg3d.rendering import Rendered
from ..progress import Progress
from .head_camera import NUMBERS, moved_label
from .picture_distance import psnr, pyramid_distance

Perceptual = Callable[[Tensor, Tensor], Tensor]
Show = Callable[[Tensor], None]
"""Is given the picture so far, (1, 3, P, P), -1..1."""
REACH = 30 / (14 * 512) ** 0.5
"""How far, for each number of a latent, the regulariser's latents lie from the pivot: 30 for the published block of rows."""
BELIEVED, FORWARD = 0.04, [2, 6, 10]
"""Radians: about the pose encoder's error on pictures made hard (docs/models/heads.md). Numbers of a label that say where the camera looks."""
FEWER = 0.6
"""Share of the samples along rays in coarse steps; our choice."""


@dataclass(frozen=True)
class InversionSettings:
    """How long and how fast."""

    latent_steps: int = 100
    """Published: 300 from the mean latent."""
    tuning_steps: int = 50
    """Published: 100."""
    latent_rate: float = 0.03
    """Published: 0.01, for three times the steps."""
    camera_rate: float = 0.008
    """Radians, and shares of the picture, a step at first."""
    tuning_rate: float = 0.0025
    detail_rate: float = 20.0
    """Times that for the constants of finer sides (`Eg3dConfig.details`): each stands for one place, so it harms no other."""
    regular: float = 0.1
    """Weight of what the generator shows at other latents."""
    regular_every: int = 4
    opacity: float = 0.5
    """Weight of the outline, where a mask is known and nothing stands behind the head."""
    apart: float = 0.3
    """From this share of the latent steps on, every layer has a row of its own."""
    kept: float = 0.002
    """Pull of the rows towards their mean and of that towards its start, mean square."""
    camera_kept: float = 0.01
    """Pull of the camera towards where the portrait believes it, in squares of `BELIEVED`: a generator that cannot draw the head
    would else turn it away."""
    tries: int = 12
    """Steps given to each of several starts before the best is kept."""
    coarse: float = 0.6
    """Share of the latent steps that look at few rays and no super-resolution: a sixth of the time."""
    coarse_side: int = 32
    """Rays along each side then."""


@dataclass(frozen=True)
class Portrait:
    """A picture to invert."""

    picture: Tensor
    """(1, 3, P, P) the generator's size, -1..1; over black where the generator has nothing behind its heads."""
    label: Tensor
    """(1, 25) where its camera is believed to be."""
    mask: Tensor | None = None
    """(1, 1, P, P) 0..1: the head; None: what stands behind it belongs to the picture."""
    care: Tensor | None = None
    """(1, 1, P, P) 0..1: what counts (clothes below a neck may be there or not); None: all of it."""


@dataclass(frozen=True)
class Pivot:
    """What the latent steps found."""

    portrait: Portrait
    ws: Tensor
    """(1, rows, w_width)"""
    label: Tensor
    """(1, 25) refined."""


def find_pivot(
    network: Eg3d,
    portrait: Portrait,
    starts: Sequence[tuple[Tensor, Tensor]],
    settings: InversionSettings | None = None,
    perceptual: Perceptual = pyramid_distance,
    progress: Progress | None = None,
    show: Show = lambda picture: None,
) -> Pivot:
    """Latent and camera of a portrait; the network is only read.

    Args:
        network: the generator, frozen.
        portrait: the picture.
        starts: latents (1, rows, w_width) and labels (1, 25) to begin at; of several the best after some steps goes on.
        settings: see there.
        perceptual: distance of pictures.
        progress: told how far it is; asked whether to go on.
        show: gets a picture now and then.

    Raises:
        Cancelled: if the artist asked for it.
    """
    settings, progress = settings or InversionSettings(), progress or Progress()
    runs = [_Search(network, portrait, ws, label, settings, perceptual) for ws, label in starts]
    tried = 0
    if len(runs) > 1:
        tried = min(settings.tries, settings.latent_steps // 3)
        for run in runs:
            for _ in range(tried):
                progress.update(0.02)
                run.step(tried)
    best = min(runs, key=lambda run: run.loss)
    total = max(settings.latent_steps - tried, 1)
    for number in range(total):
        progress.update(number / total)
        best.step(total)
        show(best.picture)
    return best.pivot()


class _Search:
    """One descent over latent and camera."""

    def __init__(
        self,
        network: Eg3d,
        portrait: Portrait,
        ws: Tensor,
        label: Tensor,
        settings: InversionSettings,
        perceptual: Perceptual,
    ) -> None:
        self.network, self.portrait, self.settings, self.perceptual = network, portrait, settings, perceptual
        self.lean = lean(network)
        self.start = ws.detach().mean(1, keepdim=True)
        self.label = label
        self.shared = self.start.clone().requires_grad_(True)
        self.own = torch.zeros_like(ws).requires_grad_(True)
        self.numbers = torch.zeros(NUMBERS, device=ws.device, requires_grad=True)
        groups = [
            {"params": [self.shared], "lr": settings.latent_rate, "first": settings.latent_rate},
            {"params": [self.own], "lr": settings.latent_rate, "first": settings.latent_rate / 2},
            {"params": [self.numbers], "lr": settings.camera_rate, "first": settings.camera_rate},
        ]
        self.optimiser = torch.optim.Adam(groups)
        self.done, self.loss = 0, math.inf
        self.picture = portrait.picture

    def step(self, total: int) -> None:
        """One step of `total`; rates fall along a cosine."""
        share = min(self.done / max(total, 1), 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = group["first"] * (0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * share)))
        apart = share >= self.settings.apart
        with torch.enable_grad():
            ws = self.shared + (self.own if apart else self.own.detach())
            if share < self.settings.coarse:
                side = min(self.settings.coarse_side, self.network.config.neural_resolution)
                rendered, picture = self.lean.render(self.lean.planes(ws), self.now(), side), None
            else:
                rendered, picture = shown(self.network, ws, self.now())
            loss = portrait_loss(self.portrait, rendered, picture, self.perceptual, self.settings.opacity)
            self.loss = float(loss.detach())
            self.picture = (rendered.image if picture is None else picture).detach()
            held = (self.shared - self.start).square().mean() + 4 * self.own.square().mean()
            wandered = (self.now()[:, FORWARD] - self.portrait.label[:, FORWARD]).square().sum() / BELIEVED**2
            self.optimiser.zero_grad()
            (loss + self.settings.kept * held + self.settings.camera_kept * wandered).backward()
        self.optimiser.step()
        self.done += 1

    def now(self) -> Tensor:
        """The camera so far."""
        pivot = self.network.config.rendering.avg_camera_pivot
        return moved_label(self.label, self.numbers, pivot)

    def pivot(self) -> Pivot:
        """Where it stands."""
        return Pivot(self.portrait, (self.shared + self.own).detach(), self.now().detach())


def tune(
    network: Eg3d,
    pivots: Sequence[Pivot],
    other: Callable[[int], Tensor],
    settings: InversionSettings | None = None,
    perceptual: Perceptual = pyramid_distance,
    progress: Progress | None = None,
    show: Show = lambda picture: None,
) -> Eg3d:
    """One generator for all pivots, a copy; each of its steps is given to each of them in turn.

    Args:
        network: the generator, frozen.
        pivots: one, or original and reference of a blend.
        other: number -> latent (1, rows, w_width) of some head, for the regulariser.
        settings: see there.
        perceptual: distance of pictures.
        progress: told how far it is; asked whether to go on.
        show: gets a picture of the first pivot now and then.

    Raises:
        Cancelled: if the artist asked for it.
    """
    settings, progress = settings or InversionSettings(), progress or Progress()
    tuned = copy.deepcopy(network)
    for parameter in tuned.parameters():
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(_groups(tuned, settings), betas=(0.0, 0.9))
    for number in range(settings.tuning_steps):
        share = number / settings.tuning_steps
        for group in optimiser.param_groups:
            group["lr"] = group["first"] * (0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi * share)))
        for place, pivot in enumerate(pivots):
            progress.update((number + place / len(pivots)) / settings.tuning_steps)
            with torch.enable_grad():
                rendered, picture = shown(tuned, pivot.ws, pivot.label)
                loss = portrait_loss(pivot.portrait, rendered, picture, perceptual, settings.opacity)
                if settings.regular and number % settings.regular_every == 0:
                    held = _held(network, tuned, pivot, other(number), perceptual)
                    loss = loss + settings.regular * settings.regular_every * held
                optimiser.zero_grad()
                loss.backward()
            optimiser.step()
            if place == 0:
                show(picture.detach())
    return tuned.requires_grad_(False)


def _groups(network: Eg3d, settings: InversionSettings) -> list[dict[str, object]]:
    """Parameters and their first rates."""
    named = list(network.named_parameters())
    places = [p for name, p in named if name.endswith(".detail")]
    rest = [p for name, p in named if not name.endswith(".detail")]
    groups = ((rest, settings.tuning_rate), (places, settings.tuning_rate * settings.detail_rate))
    return [{"params": parameters, "first": rate, "lr": rate} for parameters, rate in groups if parameters]


def _held(network: Eg3d, tuned: Eg3d, pivot: Pivot, away: Tensor, perceptual: Perceptual) -> Tensor:
    """How much another head, on the way from the pivot, looks different from before."""
    way = away - pivot.ws
    ws = pivot.ws + way * (REACH * way.numel() ** 0.5 / way.norm().clamp_min(1e-9))
    with torch.no_grad():
        before = shown(network, ws, pivot.label)[1]
    after = shown(tuned, ws, pivot.label)[1]
    return (after - before).square().mean() + perceptual(after, before)


def lean(network: Eg3d) -> Eg3d:
    """The same generator, its weights shared, with `FEWER` of the samples along rays: for steps that look at little else."""
    rendering = network.config.rendering
    made = copy.copy(network)
    made.config = replace(
        network.config,
        rendering=replace(
            rendering,
            depth_resolution=max(8, round(FEWER * rendering.depth_resolution)),
            depth_resolution_importance=round(FEWER * rendering.depth_resolution_importance),
        ),
    )
    return made


def shown(network: Eg3d, ws: Tensor, label: Tensor) -> tuple[Rendered, Tensor]:
    """What a latent (1, rows, w_width) looks like from a camera (1, 25): rays, and the picture (1, 3, P, P)."""
    rendered = network.render(network.planes(ws), label)
    return rendered, network.picture(rendered, ws)


def portrait_loss(
    portrait: Portrait, rendered: Rendered, picture: Tensor | None, perceptual: Perceptual, opacity: float
) -> Tensor:
    """Mean square and perceptual distance to the picture, also of the rays' own colours, and the outline.

    The rays' colours count because the surface is textured and turned by them: without it the super-resolution alone could
    explain the photo.

    Args:
        portrait: what is wanted.
        rendered: rays, at any resolution.
        picture: (1, 3, P, P); None: only the rays are looked at.
        perceptual: distance of pictures.
        opacity: weight of the outline.
    """
    side = rendered.image.shape[2:]
    care = None if portrait.care is None else _smaller(portrait.care, side)
    wanted, seen = _smaller(portrait.picture, side), rendered.image
    if care is not None:
        wanted, seen = wanted * care, seen * care
    if picture is None:
        loss = (seen - wanted).square().mean() + perceptual(seen, wanted)
    else:
        loss = 0.5 * perceptual(seen, wanted)
        whole = portrait.picture
        if portrait.care is not None:
            whole, picture = whole * portrait.care, picture * portrait.care
        loss = loss + (picture - whole).square().mean() + perceptual(picture, whole)
    if portrait.mask is None:
        return loss
    missed = (rendered.opacity - _smaller(portrait.mask, side)).abs()
    return loss + opacity * (missed if care is None else missed * care).mean()


def _smaller(image: Tensor, side: torch.Size) -> Tensor:
    return F.interpolate(image, size=side, mode="bilinear", antialias=True)


def likeness(network: Eg3d, pivot: Pivot) -> float:
    """PSNR in dB of the portrait on its mask."""
    with torch.no_grad():
        picture = shown(network, pivot.ws, pivot.label)[1]
    return psnr(picture, pivot.portrait.picture, pivot.portrait.mask)
