# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes of our head generator: EG3D's classes, small enough for one processor core, and grown while it trains."""

from __future__ import annotations

import torch
from maquette.core.models.eg3d.configuration import Eg3dConfig, RenderingConfig, SuperResolutionConfig
from maquette.core.models.eg3d.convolution import GAIN, SLOPE, FullyConnected
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.eg3d.mapping import Mapping
from maquette.core.models.heads.codes import WIDTH
from torch import Tensor, nn

FIRST, CHANNELS = 32, (128, 64, 32)
"""Side of the learnt constant, and channels at 32, 64 and 128 texels. From 4 texels on, as published, the same processor time
brought a third of the progress: all our heads stand in one place, so places can be learnt as such."""

FOVEA = ((0.0, 0.14), (0.06, 0.14), (0.2, 0.14))
"""Around eyes, nose and mouth of the unbent head: its texels are 1.8 times as fine there, and half as fine at the back of the head. After
120 processor seconds eyes and lips could be seen, which an even grid of twice the side did not show after 1,500."""


def generator_config(plane_side: int = 64) -> Eg3dConfig:
    """With planes of 64 or 128 texels; 256 px from a feature picture of 64."""
    levels = (plane_side // FIRST).bit_length()
    rendering = RenderingConfig(
        depth_resolution=32, depth_resolution_importance=24, ray_start=2.2, ray_end=3.2, c_gen_conditioning_zero=True
    )  # fmt: skip
    return Eg3dConfig(
        z_width=WIDTH, w_width=256, embed_width=4, mapping_widths=(256, 256, 256), mapping_rate=0.5,
        channels=CHANNELS[:levels], first_side=FIRST, details=True, plane_features=16, bend=0.3, fovea=FOVEA, decoder_hidden=32, neural_resolution=64, plane_axes="xy_xz_zy",
        superresolution=SuperResolutionConfig(64, (True, True), (32, 16), clamp=None), rendering=rendering,
    )  # fmt: skip


def new_generator(config: Eg3dConfig) -> Eg3d:
    """Untrained; the density starts in the range that it needs."""
    torch.manual_seed(0)
    network = Eg3d(config)
    last = network.decoder.net[2]
    with torch.no_grad():
        last.weight[0] *= 15.0  # type: ignore[index, union-attr]
        last.bias[0] = -20.0  # type: ignore[index, union-attr]
        network.bending.weight *= 0.1  # nothing is bent much at first
        for name, module in network.named_modules():
            if name.endswith("torgb"):
                module.weight *= 0.5  # type: ignore[operator, union-attr]
        carry_codes(network.backbone.mapping)
    # Super-resolution sharpens all heads alike: what it learnt to do by the latent did wrong to the colours of heads it had not met.
    for name, parameter in network.superresolution.named_parameters():
        if ".affine." in name:
            parameter.requires_grad_(False).fill_(0.0 if name.endswith("weight") else 1.0)
    # Labels do nothing (the camera is not conditioned on), nor does noise.
    network.backbone.mapping.embed.requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.requires_grad_(False)
    return network


def carry_codes(mapping: Mapping) -> None:
    """Let the latent begin with the code itself, each number in one unit that passes it and one that passes its negative, and beside
    them what random layers make of it. A trait that acts linearly need not be found again behind three layers.
    """
    count = WIDTH
    for number in range(mapping.layers):
        layer = mapping.get_submodule(f"fc{number}")
        assert isinstance(layer, FullyConnected)
        own = torch.eye(count)
        if number:  # lrelu(x) - lrelu(-x) = (1 + slope) x
            own = torch.cat([own, -own], 1) / ((1 + SLOPE) * GAIN)
        wide = torch.zeros(2 * count, layer.weight.shape[1])
        wide[:count, : own.shape[1]], wide[count:, : own.shape[1]] = own, -own
        layer.weight[: 2 * count] = wide * (layer.weight.shape[1] ** 0.5 / layer.rate)


def grown(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights of a smaller backbone in a larger one: new blocks start by adding next to nothing to the planes."""
    own = {name: value.clone() for name, value in network.state_dict().items()}
    for name, value in own.items():
        if name in tensors and tensors[name].shape == value.shape:
            own[name] = tensors[name]
        elif ".torgb.weight" in name:
            own[name] = value * 0.1
    return own
