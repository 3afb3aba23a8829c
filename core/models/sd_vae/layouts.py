# SPDX-License-Identifier: GPL-3.0-or-later
"""The published file layouts of the Stable Diffusion autoencoder, recognised from the keys.

`original` (CompVis; also inside whole checkpoints as `first_stage_model.`), `lrf.ckpt` of Latent Radiance Fields (the
same names beside losses and a discriminator), and `diffusers` (old and new attention names).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..parts.key_layout import KeyLayout, Rule, load_public
from .network import SDVae, VaeConfig

PREFIXES = ("first_stage_model.", "vae.", "module.", "model.")
_TRAINING_ONLY = r"^loss\.|^discriminator\.|^model_ema\.|^logvar$"


def original() -> KeyLayout:
    """Names as in our modules."""
    return KeyLayout(ignored=_TRAINING_ONLY)


def diffusers_rules(levels: int, old_attention: bool = False) -> list[Rule]:
    """Our names -> those of the diffusers library, which counts the decoder's levels the other way round."""
    attention = (
        ["query", "key", "value", "proj_attn"] if old_attention else ["to_q", "to_k", "to_v", "to_out.0"]
    )

    def up(match: re.Match[str]) -> str:
        """Level of the decoder, counted from the lowest resolution."""
        return f"decoder.up_blocks.{levels - 1 - int(match.group(1))}."

    return [
        (r"\bnorm_out\.", "conv_norm_out."),
        (r"encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1."),
        (r"decoder\.up\.(\d+)\.", up),
        (r"(_blocks\.\d+)\.block\.(\d+)\.", r"\1.resnets.\2."),
        (r"\.downsample\.conv\.", ".downsamplers.0.conv."),
        (r"\.upsample\.conv\.", ".upsamplers.0.conv."),
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
        *(
            (rf"\.mid\.attn_1\.{ours}\.", f".mid_block.attentions.0.{name}.")
            for ours, name in zip(["q", "k", "v", "proj_out"], attention, strict=True)
        ),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
    ]


def diffusers(levels: int = 4, old_attention: bool = False) -> KeyLayout:
    """Layout of `vae/diffusion_pytorch_model.safetensors`."""
    return KeyLayout(
        diffusers_rules(levels, old_attention), flat=r"attentions\.0\..*weight$", ignored=_TRAINING_ONLY
    )


def without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Only the autoencoder's tensors of a larger file, without their common prefix."""
    for prefix in PREFIXES:
        part = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        if any(name.startswith("decoder.") for name in part):
            return without_prefix(part)
    return dict(tensors)


def layout_of(tensors: Mapping[str, Tensor], levels: int) -> KeyLayout:
    """The layout that these names (without prefix) are in."""
    if not any("mid_block" in name for name in tensors):
        return original()
    return diffusers(levels, old_attention=any("proj_attn" in name for name in tensors))


def vae_from_public(
    tensors: Mapping[str, Tensor], config: VaeConfig | None = None, dtype: torch.dtype | None = None
) -> SDVae:
    """The autoencoder from any published file.

    Args:
        tensors: name -> tensor, of the autoencoder alone or of a larger checkpoint.
        config: sizes; None means the public ones.
        dtype: of the weights; None means float32.

    Raises:
        InputError: WEIGHTS_MISMATCH when names or shapes differ.
    """
    config = config or VaeConfig()
    own = without_prefix(tensors)
    with torch.device("meta"):
        vae = SDVae(config)
    load_public(vae, own, layout_of(own, len(config.multipliers)), dtype)
    return vae
