# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundled pose encoder: the camera of a face that has been found, more exactly than the finder says it.

The parser's own encoder, trained on for this one question (our choice): a finder has to answer for every window of a photo, this one
only for windows that lie around a face already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..parts.convolutions import Residual, convolution
from ..parts.own_weights import read_own, with_weights
from .parser import SIDE, VIEW, stem

NUMBERS = VIEW - 1
"""A view (`parser.VIEW`) without its presence."""


@dataclass(frozen=True)
class PoseConfig:
    """Sizes."""

    channels: tuple[int, ...] = (24, 48, 96, 160)
    """As the parser's, whose weights training begins with."""
    hidden: int = 256

    @classmethod
    def from_json(cls, text: str) -> PoseConfig:
        """Inverse of `text`."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values | {"channels": tuple(values["channels"])})

    @property
    def text(self) -> str:
        """For the metadata of a weight file."""
        return json.dumps(asdict(self))


class PoseReader(nn.Module):
    """RGB window around a face -> place, size, roll, yaw and elevation."""

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

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: PoseConfig) -> PoseReader:
        """The network with these weights, float32, in eval mode.

        Raises:
            InputError: WEIGHTS_MISMATCH when names or shapes differ.
        """
        return with_weights(cls(config), tensors, "the bundled pose encoder")

    @classmethod
    def from_file(cls, path: Path) -> PoseReader:
        """The network from a safetensors file whose metadata hold its configuration."""
        config, tensors = read_own(path)
        return cls.from_tensors(tensors, PoseConfig.from_json(config))
