# SPDX-License-Identifier: GPL-3.0-or-later
"""A head as a field: the shared tri-plane field, asked for its density the fast way."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...fields.triplane import PlaneDecoder, TriplaneField, TriplaneRule
from ..parts.rows import linear
from .planes import POINTS, sampler_of


class HeadField(TriplaneField):
    """`fields.triplane.TriplaneField`, as which it is stored and loaded again: the same values within rounding.

    Finding a surface asks for millions of densities and no colour. The frame is the generator's: y up, the face towards +z.
    """

    def __init__(self, planes: Tensor, decoder: PlaneDecoder, rule: TriplaneRule) -> None:
        super().__init__(planes, decoder, rule)
        self.sampler = sampler_of(planes, rule.axes, 2 * rule.radius, rule.bend, rule.fovea)

    def geometry(self, points: Tensor) -> Tensor:
        """points (N, 3) float32 -> density (N,) float32."""
        first, last = self.decoder.layers[0], self.decoder.layers[-1]
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
        found = [
            torch.mv(F.softplus(linear(self.sampler(part), first.weight, first.bias)), last.weight[0])
            for part in points.split(POINTS)
        ]
        return self.density_of(torch.cat(found) + last.bias[0])
