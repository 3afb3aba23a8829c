# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundled reader of heads: which part of a face each pixel shows, whether a face is there, and its camera.

A U-Net (Ronneberger et al. 2015) of residual convolutions at the size that a CPU trains in half an hour; the camera is
read from its coarsest features. Parts are numbered as `PARTS`; cameras are EG3D's (`models.eg3d.cameras`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.convolutions import Residual, convolution
from ..parts.own_weights import OwnConfig, OwnNetwork
from .codes import WIDTH

PARTS = ("background", "skin", "hair", "eyes", "brows", "nose", "mouth", "ears", "neck")
"""Neck: all skin below the jaw. Clothes are background."""
SIDE = 96
"""Pixels of the picture that the network sees."""
VIEW = 7
"""Numbers of a view: presence (logit), x and y of the crop's middle (-1..1 of the picture), log of its side over the
picture's, then roll, yaw and elevation in units of `ANGLE`."""
ANGLE = 30.0
"""Degrees."""


@dataclass(frozen=True)
class ParserConfig(OwnConfig):
    """Sizes."""

    channels: tuple[int, ...] = (24, 48, 96, 160)
    """Features at a half, a quarter, an eighth and a sixteenth of the picture."""
    fine: int = 12
    """Features at the picture's own resolution."""
    hidden: int = 128
    """Width of the camera's head; the code's is twice as wide."""


@dataclass(frozen=True)
class Reading:
    """What the network says of B pictures."""

    parts: Tensor
    """(B, 9, S, S) scores."""
    view: Tensor
    """(B, 7), see `VIEW`."""
    code: Tensor
    """(B, codes.WIDTH) what the head generator's code of the head would be, mean over what is possible; styles as scores."""


def stem(channels: tuple[int, ...]) -> nn.ModuleList:
    """Layers that halve a picture's sides one after the other."""
    return nn.ModuleList(
        nn.Sequential(convolution(fine, coarse, 2), Residual(coarse))
        for fine, coarse in pairwise((3, *channels))
    )


class HeadParser(OwnNetwork):
    """RGB picture -> parts, presence, camera, code."""

    TITLE = "the bundled face parser"
    CONFIG = ParserConfig

    def __init__(self, config: ParserConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or ParserConfig()
        self.stem = stem(c.channels)
        self.middle = nn.Sequential(Residual(c.channels[-1]), Residual(c.channels[-1]))
        widths = (c.fine, *c.channels)
        self.expand = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for coarse, fine in pairwise(widths[::-1]))
        self.refine = nn.ModuleList(
            nn.Sequential(convolution(2 * n, n), Residual(n)) for n in c.channels[-2::-1]
        )
        self.last = nn.Sequential(convolution(c.fine + 3, 16), nn.Conv2d(16, len(PARTS), 1))
        side = SIDE >> len(c.channels)
        self.squeeze = convolution(c.channels[-1], 32)
        self.view = nn.Sequential(nn.Linear(32 * side**2, c.hidden), nn.SiLU(), nn.Linear(c.hidden, VIEW))
        self.traits = convolution(c.channels[-1], 48)
        self.code = nn.Sequential(
            nn.Linear(48 * side**2, 2 * c.hidden), nn.SiLU(), nn.Linear(2 * c.hidden, WIDTH)
        )

    def forward(self, image: Tensor) -> Reading:
        """image (B, 3, S, S) sRGB 0..1."""
        image = ((image - 0.5) * 4).contiguous(memory_format=torch.channels_last)
        x, own = image, []
        for layer in self.stem:
            x = layer(x)
            own.append(x)
        x = self.middle(x)
        view = self.view(self.squeeze(x).flatten(1))
        code = self.code(self.traits(x).flatten(1))
        for expand, refine, features in zip(self.expand, self.refine, own[-2::-1], strict=False):
            x = refine(torch.cat([F.pixel_shuffle(expand(x), 2), features], 1))
        x = F.pixel_shuffle(self.expand[-1](x), 2)
        return Reading(self.last(torch.cat([x, image.to(x.dtype)], 1)).float(), view.float(), code.float())
