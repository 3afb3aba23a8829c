# SPDX-License-Identifier: GPL-3.0-or-later
"""The blend itself: a latent whose head looks and is like the original outside a region, and like the reference inside (Kim et al. 2023).

Samples lie at the same depths for original, reference and edit (no jitter), so their densities can be compared one by one. The
first steps look at few rays and no super-resolution, which costs a quarter and settles the shapes (our choice).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fit.inversion import lean
from ..models.eg3d.generator import Eg3d
from ..models.eg3d.rendering import Rendered
from ..progress import Progress
from .losses import BlendWeights, Perceptual, Target, blend_terms
from .masks import for_rays


@dataclass(frozen=True)
class BlendEffort:
    """How long, and what counts how much."""

    steps: int = 80
    """Published: 200."""
    rate: float = 0.02
    """Published: 0.01, for more steps."""
    coarse: float = 0.5
    """Share of the steps at few rays and without super-resolution."""
    coarse_side: int = 32
    weights: BlendWeights = field(default_factory=BlendWeights)


@dataclass(frozen=True)
class Seen:
    """A head as one camera sees it."""

    rendered: Rendered
    picture: Tensor
    """(1, 3, P, P)"""


def seen(
    network: Eg3d,
    ws: Tensor,
    label: Tensor,
    warp: Tensor | None = None,
    resolution: int | None = None,
    bent_as: Tensor | None = None,
) -> Seen:
    """Rays and picture of a head, without gradient.

    Args:
        network: the generator.
        ws: (1, rows, w_width).
        label: (1, 25).
        warp: (4, 4) that moves the head (local alignment).
        resolution: of the rays, with the fewer samples of coarse steps; None: the generator's own of both.
        bent_as: latent of the head whose shape it takes (`Eg3d.planes`).
    """
    with torch.no_grad():
        if resolution is not None:
            network = lean(network)
        rendered = network.render(network.planes(ws, bent_as=bent_as), label, resolution, warp=warp)
        return Seen(rendered, network.picture(rendered, ws))


def blend(
    network: Eg3d,
    start: Tensor,
    label: Tensor,
    target: Callable[[int | None], Target],
    effort: BlendEffort,
    perceptual: Perceptual,
    progress: Progress | None = None,
    show: Callable[[Tensor], None] = lambda picture: None,
) -> Tensor:
    """The latent rows of the blended head.

    Args:
        network: tuned, frozen.
        start: (1, rows, w_width) the original.
        label: (1, 25) its camera.
        target: what is wanted, at a resolution of the rays (pictures of that size then), None: the generator's own.
        effort: steps and weights.
        perceptual: distance of pictures.
        progress: told how far it is; asked whether to go on.
        show: gets a picture now and then.

    Raises:
        ValueError: the mask is empty at the resolution of the rays.
        Cancelled: if the artist asked for it.
    """
    progress = progress or Progress()
    own = network.config.neural_resolution
    low = min(effort.coarse_side, own)
    few = round(effort.steps * effort.coarse) if low < own else 0
    targets = {low: target(low) if few else None, own: target(None)}
    sparse = lean(network)
    ws = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([ws], effort.rate)
    for number in range(effort.steps):
        progress.update(number / effort.steps)
        for group in optimiser.param_groups:
            group["lr"] = effort.rate * (0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi * number / effort.steps)))
        side = low if number < few else own
        wanted = targets[side]
        assert wanted is not None
        with torch.enable_grad():
            asked = sparse if number < few else network
            rendered = asked.render(asked.planes(ws), label, side)
            picture = rendered.image if number < few else network.picture(rendered, ws)
            loss = blend_terms(wanted, picture, rendered.sigma, perceptual).total(effort.weights)
            optimiser.zero_grad()
            loss.backward()
        optimiser.step()
        show(picture.detach())
    return ws.detach()


def target_of(
    mask: Tensor, original: Tensor, first: Rendered, reference: Tensor, sigma: Tensor, coarse: bool
) -> Target:
    """What is wanted, from both heads.

    Args:
        mask: (1, 1, P, P) the region.
        original: (1, 3, P, P) the photo, or the original's picture.
        first: the original's rays.
        reference: (1, 3, ...) what the region should look like, of the rays' size where `coarse`.
        sigma: (1, D, R, R) raw densities of that.
        coarse: pictures of the rays' size.
    """
    if coarse:
        side = first.image.shape[2:]
        original = F.interpolate(original, size=side, mode="bilinear", antialias=True)
        mask = for_rays(mask, side[0])
    return Target(mask, original, reference, first.sigma, sigma)
