# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an inversion begins: the code of a portrait as the face reader sees it (`parser.Reading.code`).

The reader learnt codes of rendered heads together with their parts and cameras: traits are known there, so nothing has to be
inverted to train it (our choice). How much of which trait it tells stands in docs/models/heads.md: so far hairstyle and pack.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .codes import settle
from .parser import SIDE, HeadParser


@torch.no_grad()
def portrait_code(reader: HeadParser, crop: Tensor) -> Tensor:
    """Codes (B, codes.WIDTH) float32, settled.

    Args:
        reader: the face reader.
        crop: (B, 3, P, P) -1..1, upright, framed as EG3D's crop or up to a quarter wider, with whatever stands behind.
    """
    small = F.interpolate(crop, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return settle(reader(((small + 1) / 2).clamp(0, 1)).code)
