# SPDX-License-Identifier: GPL-3.0-or-later
"""EG3D (Chan et al., CVPR 2022): latent code -> three planes -> feature picture -> picture; the planes are a field.

World of the published heads: y up, the face towards +z, the origin inside the head; `cameras` says how it lies in ours.
Labels (B, 25) are camera-to-world (OpenCV axes) and normalised intrinsics. The label given to `mapping` conditions the
appearance, the one given to `render` is the camera: they need not be the same, and the published programs always
condition on the frontal camera. Planes depend on the latent rows alone, so one set serves every camera.
"""

from __future__ import annotations

from collections.abc import Mapping as Mapped
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...fields.triplane import PlaneDecoder, TriplaneRule
from ..parts.key_layout import KeyLayout, load_public
from .configuration import AXES, BEND, Eg3dConfig
from .convolution import FullyConnected
from .head_field import HeadField
from .mapping import Mapping
from .planes import MARGIN, POINTS, BentSampler, Decoder, PlaneSampler, sampler_of, with_margin
from .rays import Draws
from .rendering import Query, Rendered, render
from .synthesis import Noise, SuperResolution, Synthesis

LAYOUT = KeyLayout(ignored=r"^dataset_label_std$")
"""The public names are ours. Training leaves the spread of its labels in the file."""
LEVEL = 10.0
"""Raw density on the surface of the published heads (the project's own advice: 2 to 20)."""
BORDER = 0.117
"""Share of the box's side left out at each face: a wall stands there, the background of the photos."""


class Backbone(nn.Module):
    """Mapping and synthesis under one name, as published."""

    def __init__(self, config: Eg3dConfig) -> None:
        super().__init__()
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)


class Eg3d(nn.Module):
    """The generator; parameters have the public names."""

    def __init__(self, config: Eg3dConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or Eg3dConfig()
        self.backbone = Backbone(config)
        self.superresolution = SuperResolution(config.superresolution, config.plane_features, config.w_width)
        self.decoder = Decoder(config.plane_features, config.decoder_hidden, config.rendering.decoder_lr_mul)
        if config.bend:
            self.bending = FullyConnected(config.w_width, 3 * BEND * config.bend_side**2)
        self.hold_channels_last()

    @classmethod
    def from_public(cls, tensors: Mapped[str, Tensor], config: Eg3dConfig) -> Eg3d:
        """Network from the weights of a public file.

        Raises:
            InputError: WEIGHTS_MISMATCH.
        """
        with torch.device("meta"):
            network = cls(config)
        load_public(network, tensors, LAYOUT)
        network.hold_channels_last()
        return network

    def hold_channels_last(self) -> None:
        """Lay the kernels out as the pictures are held, which saves a copy of each for every picture."""
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def mapping(self, z: Tensor, label: Tensor, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Latent rows (B, rows, w_width).

        Args:
            z: (B, z_width) from N(0, 1); float64 is fine.
            label: (B, 25), the camera that appearance is conditioned on.
            truncation: psi; 1 leaves the rows as they are, 0 gives the mean head.
            cutoff: rows from here on are not truncated; None: all are.
        """
        rendering = self.config.rendering
        label = label.float() * (0.0 if rendering.c_gen_conditioning_zero else rendering.c_scale)
        return self.backbone.mapping(z, label, truncation, cutoff)

    def planes(self, ws: Tensor, noise: Noise = "const", bent_as: Tensor | None = None) -> Tensor:
        """ws (B, rows, w_width) -> (B, 3, C, S, S). `random` noise, the original's default, never repeats.

        Where the planes bend, three features that say by how much go before the others; they are linear in the first row (our
        choice: shapes are nearly linear in the traits of a head, so this is learnt in minutes). They may be those of other rows, `bent_as`:
        the head with the shape of another.
        """
        features = self.backbone.synthesis(ws, noise).unflatten(1, (3, -1))
        config = self.config
        if not config.bend:
            return features
        bends = self.bending((ws if bent_as is None else bent_as)[:, 0]).view(
            -1, BEND, config.bend_side, config.bend_side
        )
        bends = F.interpolate(bends, size=features.shape[-2:], mode="bilinear")
        return torch.cat([bends.unflatten(0, (-1, 3)), features], 2)

    def render(
        self,
        planes: Tensor,
        labels: Tensor,
        resolution: int | None = None,
        draws: Draws | None = None,
        warp: Tensor | None = None,
    ) -> Rendered:
        """Feature pictures.

        Args:
            planes: (B, 3, C, S, S).
            labels: (B, 25) cameras.
            resolution: side of the feature picture; None: that of training.
            draws: random numbers of the samples; None: repeatable.
            warp: (4, 4) affine map that moves what is seen (local alignment of 3D-aware blending).
        """
        samplers = [self.sampler(item) for item in planes]
        queries: list[Query] = [partial(self._query, sampler) for sampler in samplers]
        resolution = resolution or self.config.neural_resolution
        return render(queries, labels, resolution, self.config.rendering, draws, warp)

    def picture(self, rendered: Rendered, ws: Tensor) -> Tensor:
        """Final picture (B, 3, P, P), about -1..1, of what was rendered; modulated by the last latent row."""
        rendering = self.config.rendering
        return self.superresolution(
            rendered.features, ws[:, -1], rendering.superresolution_noise_mode, rendering.sr_antialias
        )

    def forward(
        self, ws: Tensor, labels: Tensor, noise: Noise = "const", draws: Draws | None = None
    ) -> Tensor:
        """ws (B, rows, w_width), cameras (B, 25) -> pictures (B, 3, P, P), about -1..1."""
        return self.picture(self.render(self.planes(ws, noise), labels, draws=draws), ws)

    def query(self, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """One head's planes (3, C, S, S), points (N, 3) -> raw density (N,), colour features (N, C) in -0.001..1.001."""
        sampler = self.sampler(planes)
        found = [self._query(sampler, part) for part in points.split(POINTS)]
        return torch.cat([sigma for sigma, _ in found]), with_margin(torch.cat([rgb for _, rgb in found]))

    def field(self, planes: Tensor, level: float = LEVEL, border: float = BORDER) -> HeadField:
        """One head as a field in the generator's frame; it keeps its own copy of what it needs.

        Args:
            planes: (3, C, S, S).
            level: raw density of the surface.
            border: share of the box's side that is left out at each face.
        """
        config = self.config
        (w0, b0), (w1, b1) = self.decoder.matrices()
        decoder = PlaneDecoder(config.plane_features, config.decoder_hidden, 1, 3, "softplus")
        values = {
            "layers.0.weight": w0,
            "layers.0.bias": b0,
            "layers.2.weight": w1[:4],
            "layers.2.bias": b1[:4],
        }
        decoder.load_state_dict({name: value.detach() for name, value in values.items()})
        rule = TriplaneRule(
            radius=config.rendering.box_warp / 2,
            axes=AXES[config.plane_axes],
            reduction="mean",
            density="softplus",
            density_bias=-1.0,
            colour_margin=MARGIN,
            level=float(F.softplus(torch.tensor(level - 1.0))),
            border=border,
            bend=config.bend,
            fovea=config.fovea,
        )
        return HeadField(
            planes.detach().clone(), decoder.to(planes.device).requires_grad_(False).eval(), rule
        )

    def sampler(self, planes: Tensor) -> PlaneSampler | BentSampler:
        """What reads one head's planes (3, C, S, S) at points."""
        config = self.config
        return sampler_of(
            planes, AXES[config.plane_axes], config.rendering.box_warp, config.bend, config.fovea
        )

    def _query(self, sampler: PlaneSampler | BentSampler, points: Tensor) -> tuple[Tensor, Tensor]:
        return self.decoder(sampler(points))
