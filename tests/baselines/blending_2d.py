# SPDX-License-Identifier: GPL-3.0-or-later
"""2D ways to put a part of one portrait on another, for comparison with 3D-aware blending (its paper, section 4).

Each takes the original, a reference picture (as it is, or aligned by our 3D), and the region; pictures are (1, 3, P, P), -1..1.
"""

from __future__ import annotations

import numpy as np
import torch
from maquette.core.blending.poisson import seamless_clone
from maquette.core.fit.inversion import InversionSettings, Pivot, Portrait, find_pivot, shown
from maquette.core.models.eg3d.generator import Eg3d
from torch import Tensor


def poisson(original: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Gradient-domain cloning (Perez et al. 2003) of the reference's region."""
    source, destination = (p[0].permute(1, 2, 0).cpu().numpy() for p in (reference, original))
    out = seamless_clone(source, destination, mask[0, 0].cpu().numpy() > 0.5)
    return torch.from_numpy(np.ascontiguousarray(out)).permute(2, 0, 1)[None].clamp(-1, 1)


def latent_composition(
    network: Eg3d, pivot: Pivot, reference: Tensor, mask: Tensor, settings: InversionSettings
) -> Tensor:
    """The collage of both pictures, brought back among the generator's heads (Chai et al. 2021).

    The paper's encoder regresses the latent of a collage in one pass. Ours knows no masks, so the latent is found from the
    original's by as many steps as the other methods have: this favours the baseline.
    """
    collage = pivot.portrait.picture * (1 - mask) + reference * mask
    outline = pivot.portrait.mask
    found = find_pivot(network, Portrait(collage, pivot.label, outline), [(pivot.ws, pivot.label)], settings)
    with torch.no_grad():
        return shown(network, found.ws, pivot.label)[1]
