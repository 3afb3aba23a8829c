# SPDX-License-Identifier: GPL-3.0-or-later
"""The published file layouts of Zero123: one original checkpoint, or the folders of two diffusers conversions.

Original: four prefixes (below), and a moving average of the U-Net under `model_ema.` that the original code samples with.
Diffusers: the folders `unet`, `vae`, `image_encoder` and `cc_projection` (name `projection`) or `clip_camera_projection`
(name `proj`); here their tensors are expected in one dictionary, each name with its folder and a dot in front.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..parts.key_layout import KeyLayout, Rule, load_public
from ..sd_vae import layouts as vae_layouts
from . import clip
from .model import Zero123, Zero123Config

Part = tuple[str, KeyLayout]
_CLIP_FLAT = r"(class|positional)_embedding$|position_embedding\.weight$"


def original() -> dict[str, Part]:
    """Our part -> its prefix in the original checkpoint and the layout below it. Other keys there are not needed."""
    return {
        "unet": ("model.diffusion_model.", KeyLayout()),
        "vae": ("first_stage_model.", vae_layouts.original()),
        "clip": ("cond_stage_model.model.visual.", KeyLayout(clip.OPENAI, flat=_CLIP_FLAT)),
        "cc_projection": ("cc_projection.", KeyLayout()),
    }


def diffusers(config: Zero123Config, tensors: Mapping[str, Tensor]) -> dict[str, Part]:
    """The same for the diffusers folders at hand."""
    old_attention = any("proj_attn" in name for name in tensors)
    camera: Part = ("cc_projection.", KeyLayout([(r"^", "projection.")]))
    if any(name.startswith("clip_camera_projection.") for name in tensors):
        camera = ("clip_camera_projection.", KeyLayout([(r"^", "proj.")]))
    tower = KeyLayout(
        clip.DIFFUSERS, flat=_CLIP_FLAT, transposed=r"^visual_projection\.weight$", ignored=r"position_ids$"
    )
    return {
        "unet": ("unet.", KeyLayout(unet_rules(config.unet.blocks, len(config.unet.multipliers)))),
        "vae": ("vae.", vae_layouts.diffusers(len(config.vae.multipliers), old_attention)),
        "clip": ("image_encoder.", tower),
        "cc_projection": camera,
    }


def unet_rules(blocks: int, levels: int) -> list[Rule]:
    """Names of the original U-Net -> those of the diffusers library (spec 3.1: blocks counted per level)."""

    def down(match: re.Match[str]) -> str:
        """Step n of the way down: its level and its place there."""
        n, rest = int(match.group(1)), match.group(2)
        if n == 0:
            return "conv_in" + rest.removeprefix(".0")
        level, layer = divmod(n - 1, blocks + 1)
        if rest.startswith(".0.op"):
            return f"down_blocks.{level}.downsamplers.0.conv{rest.removeprefix('.0.op')}"
        return f"down_blocks.{level}." + _child(layer, rest)

    def up(match: re.Match[str]) -> str:
        """The same on the way up, where the up-sampler is the last child of a step."""
        level, layer = divmod(int(match.group(1)), blocks + 1)
        rest = match.group(2)
        upsampler = re.match(r"\.\d\.conv(\..*)", rest)
        if upsampler:
            return f"up_blocks.{level}.upsamplers.0.conv{upsampler.group(1)}"
        return f"up_blocks.{level}." + _child(layer, rest)

    return [
        (r"^input_blocks\.(\d+)(.*)$", down),
        (r"^output_blocks\.(\d+)(.*)$", up),
        (r"^middle_block\.0\.", "mid_block.resnets.0."),
        (r"^middle_block\.1\.", "mid_block.attentions.0."),
        (r"^middle_block\.2\.", "mid_block.resnets.1."),
        (r"^time_embed\.0\.", "time_embedding.linear_1."),
        (r"^time_embed\.2\.", "time_embedding.linear_2."),
        (r"^out\.0\.", "conv_norm_out."),
        (r"^out\.2\.", "conv_out."),
        (r"\.in_layers\.0\.", ".norm1."),
        (r"\.in_layers\.2\.", ".conv1."),
        (r"\.emb_layers\.1\.", ".time_emb_proj."),
        (r"\.out_layers\.0\.", ".norm2."),
        (r"\.out_layers\.3\.", ".conv2."),
        (r"\.skip_connection\.", ".conv_shortcut."),
    ]


def _child(layer: int, rest: str) -> str:
    """`.0.x` is the residual block of a step, `.1.x` its transformer."""
    kind = "resnets" if rest.startswith(".0.") else "attentions"
    return f"{kind}.{layer}{rest[2:]}"


def public_shapes(model: Zero123) -> dict[str, list[int]]:
    """Complete key list of the original checkpoint, without what a sampler does not need."""
    return {
        prefix + name: shape
        for part, (prefix, layout) in original().items()
        for name, shape in layout.public_shapes(model.get_submodule(part)).items()
    }


def with_moving_average(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net's weights replaced by their moving average where the file holds it (its names have lost their dots)."""
    out = dict(tensors)
    for name in tensors:
        average = "model_ema." + name.removeprefix("model.").replace(".", "")
        if name.startswith("model.diffusion_model.") and average in tensors:
            out[name] = tensors[average]
    return out


def converted(tensor: Tensor, dtype: torch.dtype, release: Callable[[Tensor], None] | None) -> Tensor:
    """A floating tensor in another dtype; `release` is told of the one that is no longer wanted."""
    made = tensor.to(dtype) if tensor.is_floating_point() else tensor
    if made is not tensor and release is not None:
        release(tensor)
    return made


def zero123_from_public(
    tensors: Mapping[str, Tensor],
    config: Zero123Config | None = None,
    dtype: torch.dtype | None = None,
    release: Callable[[Tensor], None] | None = None,
) -> Zero123:
    """The four networks from an original checkpoint's `state_dict` or from diffusers folders.

    Args:
        tensors: name -> tensor.
        config: sizes; None means the public ones.
        dtype: of the weights; None means float32. float16 takes 2.5 GB.
        release: told of each tensor that has been copied to another dtype.

    Raises:
        InputError: WEIGHTS_MISMATCH when names or shapes of a part differ.
    """
    config = config or Zero123Config()
    with torch.device("meta"):
        model = Zero123(config)
    is_original = any(name.startswith("model.diffusion_model.") for name in tensors)
    tensors = with_moving_average(tensors) if is_original else tensors
    for part, (prefix, layout) in (original() if is_original else diffusers(config, tensors)).items():
        own = {
            name.removeprefix(prefix): converted(tensor, dtype or torch.float32, release)
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        load_public(model.get_submodule(part), own, layout, dtype)
    return model
