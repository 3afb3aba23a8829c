# SPDX-License-Identifier: GPL-3.0-or-later
"""What a region of the original should look like: the reference where it belongs, in the original's tone, and what it uncovers.

The published method takes all of the region from the reference. Then a fringe that goes leaves the reference's forehead, in the
reference's skin, and a nose brings its cheeks' colour along. Ours begins at the original with the region's known traits exchanged (its
code says hairstyle and eye colour), and takes from the reference only what is its part; all this is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blending.alignment import Placement, fitted, rim
from ..blending.blend import Seen, seen
from ..blending.masks import for_rays
from ..models.eg3d.generator import Eg3d
from ..models.heads.traits import with_traits
from .head_model import OpenModel
from .head_regions import part_mask, parts_of

WORN = ("hair",)
"""Regions that take the shape of the head below them and are seen on it only where they are; others keep their own shape and come
with the skin around them."""
SHAPES: dict[str, tuple[str, ...]] = {"hair": ("hair",), "eyes": ("gaze",)}
"""Groups of the code that say a region's shape; of a nose or a mouth no group says only that."""
COLOURS: dict[str, tuple[str, ...]] = {
    "hair": ("hair_colour",),
    "eyes": ("eye",),
    "brows": ("brow_share", "brow"),
}
"""Likewise its colour."""
TONE = (0.4, 2.5)
"""Least and greatest factor that brings the reference's skin to the original's, per colour."""


@dataclass(frozen=True)
class Wanted:
    """The reference as the region should show it, on the original's head."""

    reference: Tensor
    """(1, rows, w_width)"""
    place: Placement
    start: Tensor
    """(1, rows, w_width) where the blend begins; it also fills what is not `shown`."""
    tone: Tensor
    """(1, 3, 1, 1) factors on the reference's colours 0..1."""
    shown: Tensor | None = None
    """(1, 1, P, P) 0 or 1 where the reference's part is seen; None: everywhere."""

    def toned(self, picture: Tensor) -> Tensor:
        """(1, 3, ...) -1..1 in the original's tone."""
        return (picture + 1) * self.tone - 1

    def seen(self, network: Eg3d, resolution: int | None = None) -> tuple[Tensor, Tensor]:
        """Picture, of the rays' size where a resolution is given, and raw densities of the coarse samples (`blend.seen`)."""
        there = self.place.seen(network, self.reference, resolution)
        picture = self.toned(_picture(there, resolution))
        sigma = there.rendered.sigma
        if self.shown is None:
            return picture, sigma
        below = seen(network, self.start, self.place.label, None, resolution)
        rays = for_rays(self.shown, sigma.shape[-1])
        pixels = self.shown if resolution is None else rays
        return (
            pixels * picture + (1 - pixels) * _picture(below, resolution),
            rays * sigma + (1 - rays) * below.rendered.sigma,
        )


def as_published(reference: Tensor, place: Placement, start: Tensor) -> Wanted:
    """All of the region from the reference, in its own tone."""
    return Wanted(reference, place, start, torch.ones(1, 3, 1, 1, device=reference.device))


def wanted_of(
    opened: OpenModel,
    network: Eg3d,
    heads: tuple[Tensor, Tensor],
    label: Tensor,
    before: Tensor,
    own: Tensor,
    region: str,
    take: str = "both",
) -> Wanted:
    """The reference's part on the original's head.

    Args:
        opened: the generator as loaded.
        network: the same, tuned to both.
        heads: latents (1, rows, w_width) of original and reference.
        label: (1, 25) the original's camera.
        before: (1, 3, P, P) the original's picture.
        own: (1, 1, P, P) 0 or 1 the region in it, as far as it is known before the reference is laid over it.
        region: its name; empty: it is painted, and all of the reference in it is wanted.
        take: both | shape | colour of the reference.
    """
    original, reference = heads
    worn = region in WORN
    place = fitted(network, original, reference, label, own, worn)
    there = place.seen(network, reference)
    start = original
    names = _known(region, take)
    if opened.ours is not None and names:
        start = with_traits(network, original, reference, opened.frontal, names)
    tone = torch.ones(1, 3, 1, 1, device=before.device)
    if not worn and take == "both":
        tone = tone_between(there, before, own)
    shown = None
    if region:
        hair = torch.from_numpy(part_mask(parts_of(there.picture, label), "hair")).to(before)[None, None]
        shown = hair if worn else 1 - hair
    return Wanted(reference, place, start, tone, shown)


def _known(region: str, take: str) -> tuple[str, ...]:
    """Groups of the code that go over."""
    shapes = () if take == "colour" else SHAPES.get(region, ())
    return shapes + (() if take == "shape" else COLOURS.get(region, ()))


def tone_between(there: Seen, before: Tensor, own: Tensor) -> Tensor:
    """Factors (1, 3, 1, 1) that bring a head's colours to the original's where both border on the region."""
    side = own.shape[-1]
    cover = F.interpolate(there.rendered.opacity, size=(side, side), mode="bilinear") > 0.95
    band = (rim(own) & cover).float()
    if not bool(band.any()):
        return torch.ones(1, 3, 1, 1, device=own.device)
    of_one, of_other = (((p + 1) * band).sum((2, 3), keepdim=True) for p in (before, there.picture))
    return (of_one / of_other.clamp_min(1e-6)).clamp(*TONE)


def _picture(of: Seen, resolution: int | None) -> Tensor:
    return of.picture if resolution is None else of.rendered.image
