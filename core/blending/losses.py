# SPDX-License-Identifier: GPL-3.0-or-later
"""What a blended head is measured by: image blending and density blending (Kim et al. 2023, equations 3 to 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .masks import for_rays, share_weight

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Distance of two pictures (B, 3, H, W), -1..1 -> scalar."""


@dataclass(frozen=True)
class BlendWeights:
    """Factors of the released program."""

    image: float = 10.0
    """Of all picture terms against the densities."""
    reference: float = 0.1
    """Of the reference's appearance within the picture terms."""
    colour: float = 1.0
    """Reference colour: 0 takes its shape alone; 1 for faces, 5 for cats; the scripts intend 3 for hair."""
    density: float = 1.0
    """Of the density terms; 0: pictures only, the 2D baseline."""
    reference_density: float = 1.0
    """Of the reference's densities; 0 takes its colour alone."""


@dataclass(frozen=True)
class Target:
    """What the edited head should look like; tensors of one picture each, without gradient."""

    mask: Tensor
    """(1, 1, H, W), 1 inside the region."""
    original: Tensor
    """(1, 3, H, W) the photo, -1..1."""
    reference: Tensor
    """(1, 3, H, W) the aligned reference's picture."""
    original_sigma: Tensor
    """(1, D, R, R) raw densities of the original at the coarse samples."""
    reference_sigma: Tensor
    """(1, D, R, R) of the aligned reference, same cameras and samples."""


@dataclass(frozen=True)
class BlendTerms:
    """The parts of the loss, unweighted scalars."""

    original_rgb: Tensor
    original_perceptual: Tensor
    reference_perceptual: Tensor
    """Already raised by the region's share of the picture."""
    original_density: Tensor
    reference_density: Tensor
    """Likewise."""

    def total(self, weights: BlendWeights) -> Tensor:
        """L_density + 10 (L_rgb + L_perceptual)."""
        perceptual = self.original_perceptual + weights.reference * weights.colour * self.reference_perceptual
        density = self.original_density + weights.reference_density * self.reference_density
        return weights.density * density + weights.image * (self.original_rgb + perceptual)


def outside_rgb(mask: Tensor, original: Tensor, edited: Tensor) -> Tensor:
    """Mean over all pixels of |(1 - m) (I_original - I_edited)|."""
    return ((1 - mask) * (original - edited)).abs().mean()


def outside_density(ray_mask: Tensor, original: Tensor, edited: Tensor) -> Tensor:
    """Mean over all samples of |(1 - m) (D_original - D_edited)|; the mask (B, 1, R, R) takes whole rays."""
    return ((1 - ray_mask) * (original - edited)).abs().mean()


def inside_density(ray_mask: Tensor, reference: Tensor, edited: Tensor) -> Tensor:
    """Mean over the masked rays' samples of |D_reference - D_edited|: a small region counts as much as a large one."""
    return share_weight(ray_mask) * (ray_mask * (reference - edited)).abs().mean()


def blend_terms(target: Target, picture: Tensor, sigma: Tensor, perceptual: Perceptual) -> BlendTerms:
    """The loss of an edited head, seen by the original's camera.

    Args:
        target: what it should look like.
        picture: (1, 3, H, W) of the edited head.
        sigma: (1, D, R, R) its raw densities.
        perceptual: distance of pictures; what does not count is grey (0) in both.

    Raises:
        ValueError: the mask is empty at the resolution of the rays.
    """
    mask, rays = target.mask, for_rays(target.mask, sigma.shape[-1])
    return BlendTerms(
        outside_rgb(mask, target.original, picture),
        perceptual((1 - mask) * target.original, (1 - mask) * picture),
        share_weight(rays) * perceptual(mask * target.reference, mask * picture),
        outside_density(rays, target.original_sigma, sigma),
        inside_density(rays, target.reference_sigma, sigma),
    )
