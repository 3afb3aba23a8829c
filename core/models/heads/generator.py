# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundled head generator: a small EG3D whose latent code is made of known traits (`codes`), with its weights and settings.

Everything that works for published EG3D networks works for `HeadGenerator.network`: frame, labels and focal length are
theirs (`eg3d.cameras`). What differs: a code has to be settled, the conditioning label does nothing, heads are whole all
around, and black stands behind them.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from ...errors import InputError
from ..eg3d.cameras import frontal_label
from ..eg3d.configuration import Eg3dConfig
from ..eg3d.generator import Eg3d
from ..eg3d.head_field import HeadField
from ..parts.own_weights import read_own
from .codes import WIDTH, codes, settle

WEIGHTS = Path(__file__).parents[2] / "weights/heads/generator.safetensors"
LEVEL, BORDER = 10.0, 0.01
"""Raw density on the surface, which training fixes; share of the box's side left out at each face (no wall stands there)."""
NEVER_READ = ("resample_filter", "noise_const", "noise_strength")
"""Buffers of the published layout that our networks do not use; files leave them out."""


class HeadGenerator:
    """Random heads, their planes, fields and pictures."""

    def __init__(self, network: Eg3d) -> None:
        self.network = network.eval().requires_grad_(False)
        self.config: Eg3dConfig = network.config
        self.level, self.border = LEVEL, BORDER

    @property
    def frontal(self) -> Tensor:
        """(1, 25) camera from in front."""
        return torch.from_numpy(frontal_label())[None]

    @property
    def mean_ws(self) -> Tensor:
        """(1, rows, w_width) float32: mean of the latent rows of random heads."""
        return self.network.backbone.mapping.w_avg.expand(1, self.config.rows, -1)

    def z(self, seed: int, count: int = 1) -> Tensor:
        """(count, z_width) float32 codes of random heads; the same for the same seed."""
        return codes(seed, count)

    def settle(self, raw: Tensor) -> Tensor:
        """Standard normal (N, z_width) -> codes of the same shape (`codes.settle`)."""
        return settle(raw)

    @torch.no_grad()
    def ws(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Latent rows (N, rows, w_width) of codes (N, z_width); 0 truncates to the mean head, 1 not at all."""
        return self.network.mapping(z, self.frontal.expand(len(z), -1), truncation)

    def sample(self, seed: int, truncation: float = 1.0) -> Tensor:
        """Latent rows (1, rows, w_width) of a random head."""
        return self.ws(self.z(seed), truncation)

    def planes(self, ws: Tensor) -> Tensor:
        """ws (N, rows, w_width) -> (N, 3, C, S, S)."""
        return self.network.planes(ws, noise="none")

    def field(self, planes: Tensor) -> HeadField:
        """One head's planes (3, C, S, S) as a field in the generator's frame."""
        return self.network.field(planes, self.level, self.border)

    def picture(
        self, ws: Tensor, planes: Tensor, labels: Tensor, resolution: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures through super-resolution.

        Args:
            ws: (N, rows, w_width).
            planes: (N, 3, C, S, S) of these rows.
            labels: (N, 25) cameras.
            resolution: side of the feature picture; None: that of training.

        Returns:
            Colours (N, 3, P, P), about -1..1 over black; opacity (N, 1, R, R), 0..1; distance from the camera (N, 1, R, R).
        """
        rendered = self.network.render(planes, labels, resolution)
        return self.network.picture(rendered, ws), rendered.opacity, rendered.depth


def load_generator(path: Path | None = None) -> HeadGenerator:
    """The generator of a safetensors file whose metadata hold its configuration (`config`, JSON); None: the bundled one.

    Raises:
        InputError: WEIGHTS_MISSING, WEIGHTS_MISMATCH.
    """
    path = path or WEIGHTS
    if not path.is_file():
        raise InputError(
            "WEIGHTS_MISSING",
            f"The weights of the head generator are not at {path}.",
            "Install the extension again, or name the file of another generator in the panel Heads or with --model.",
        )
    try:
        text, tensors = read_own(path)
        config = Eg3dConfig.from_json(json.loads(text))
        if config.z_width != WIDTH:
            raise ValueError(f"codes of {config.z_width} numbers, not {WIDTH}")
        network = Eg3d(config)
        whole = {
            name: torch.zeros_like(value) for name, value in network.state_dict().items() if left_out(name)
        }
        network.load_state_dict(whole | tensors)
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise InputError(
            "WEIGHTS_MISMATCH",
            f"{path.name} does not hold our head generator: {error}.",
            "Install the extension again, or choose another file.",
        ) from error
    network.hold_channels_last()
    return HeadGenerator(network)


def left_out(name: str) -> bool:
    """Whether files of ours leave this tensor out."""
    return name.rsplit(".", 1)[-1] in NEVER_READ
