# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundled pose encoder: the camera of a face that has been found, more exactly than the finder says it.

The parser's own encoder, trained on for this one question (our choice): a finder has to answer for every window of a photo, this one
only for windows that lie around a face already.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..parts.convolutions import Residual, convolution
from ..parts.own_weights import OwnConfig, OwnNetwork
from .parser import SIDE, VIEW, stem

NUMBERS = VIEW - 1
"""A view (`parser.VIEW`) without its presence."""


@dataclass(frozen=True)
class PoseConfig(OwnConfig):
    """Sizes."""

    channels: tuple[int, ...] = (24, 48, 96, 160)
    """As the parser's, whose weights training begins with."""
    hidden: int = 256


class PoseReader(OwnNetwork):
    """RGB window around a face -> place, size, roll, yaw and elevation."""

    TITLE = "the bundled pose encoder"
    CONFIG = PoseConfig

    def __init__(self, config: PoseConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PoseConfig()
        self.stem = stem(c.channels)
        self.middle = nn.Sequential(Residual(c.channels[-1]), Residual(c.channels[-1]))
        self.squeeze = convolution(c.channels[-1], 48)
        side = SIDE >> len(c.channels)
        self.view = nn.Sequential(nn.Linear(48 * side**2, c.hidden), nn.SiLU(), nn.Linear(c.hidden, NUMBERS))

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) sRGB 0..1 -> (B, 6), see `parser.VIEW`."""
        x = ((image - 0.5) * 4).contiguous(memory_format=torch.channels_last)
        for layer in self.stem:
            x = layer(x)
        return self.view(self.squeeze(self.middle(x)).flatten(1)).float()
