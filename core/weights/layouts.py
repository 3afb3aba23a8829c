# SPDX-License-Identifier: GPL-3.0-or-later
"""Which published system a weight file belongs to, told from its keys alone. Standard library only.

To add a system, add a line to `LAYOUTS` (what its keys look like) and one to `networks.NETWORKS` (how they are loaded).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from .contents import Sorted, no_tensors

Leaf = TypeVar("Leaf")

AVERAGES = ("generator_test", "model_g_ma", "ema", "params_ema", "model_ema", "G_ema")
"""Names under which published checkpoints keep the moving average of a generator, which is the better one."""
PLAIN = (
    "model", "model_g", "generator", "network_fine_state_dict", "network_fn_state_dict", "state_dict", "params", "weights",
)  # fmt: skip
"""Names of the plain weights, in order of preference."""
WHOLE = ("sdf_network_lod0",)
"""Entries of files whose networks are several entries together (SparseNeuS)."""
PREFIXES = ("generator_test.", "generator.", "matcher.")
"""Beginnings of keys that set a network off against training's other networks (GIRAFFE, CAMPARI, LoFTR)."""


@dataclass(frozen=True)
class Layout:
    """How the keys of one published file format look."""

    name: str
    needs: tuple[str, ...]
    """Keys, or beginnings of keys that end in a dot, that must all be there."""
    never: tuple[str, ...] = ()
    """Keys or beginnings that must not be there."""
    title: str = ""
    """For people."""

    def fits(self, keys: Mapping[str, Any]) -> bool:
        """Whether the keys are those of this system."""
        return all(_has(keys, key) for key in self.needs) and not any(_has(keys, key) for key in self.never)


ZERO123 = ("unet.conv_in.weight", "vae.", "image_encoder.")
LAYOUTS: tuple[Layout, ...] = (
    Layout("triposr", ("tokenizer.embeddings", "post_processor.upsample.weight", "image_tokenizer.model."), title="TripoSR"),
    Layout("openlrm", ("pos_embed", "upsampler.weight", "camera_embedder."), title="OpenLRM 1.1"),
    Layout("openlrm", ("transformer.pos_embed", "transformer.deconv.weight", "camera_embedder."), title="OpenLRM 1.0"),
    Layout("zero123", ("model.diffusion_model.time_embed.0.weight", "cc_projection.weight", "first_stage_model."),
           title="Zero123"),
    Layout("zero123", (*ZERO123, "cc_projection."), title="Zero123, diffusers"),
    Layout("zero123", (*ZERO123, "clip_camera_projection."), title="Zero123 XL, diffusers"),
    Layout("sparseneus", ("pyramid_feature_network.", "sdf_network_lod0.", "rendering_network_lod0."), title="SparseNeuS"),
    Layout("loftr", ("backbone.conv1.weight", "loftr_coarse.", "fine_preprocess."), title="LoFTR"),
    Layout("depth_anything", ("model.backbone.pretrained.", "model.cam_dec."), title="Depth Anything 3"),
    Layout("depth_anything", ("backbone.pretrained.", "cam_dec."), title="Depth Anything 3"),
    Layout("sd_vae", ("encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight"),
           title="Stable Diffusion's autoencoder"),
    Layout("sd_vae", ("first_stage_model.encoder.conv_in.weight", "first_stage_model.quant_conv.weight"),
           title="Stable Diffusion, its autoencoder"),
    Layout("sd_vae", ("vae.encoder.conv_in.weight", "vae.quant_conv.weight"), title="Stable Diffusion, its autoencoder"),
    Layout("eg3d", ("backbone.mapping.", "backbone.synthesis.b4.const", "superresolution."), title="EG3D"),
    Layout("eg3d_encoder", ("b4.pose.weight", "b4.latent.weight", "b4.fc.weight"), title="3D-aware blending, encoder"),
    Layout("face_parser", ("cp.resnet.", "cp.arm16.", "ffm.convblk.conv.weight"), title="BiSeNet for faces"),
    Layout("giraffe", ("neural_renderer.", "background_generator."), title="GIRAFFE"),
    Layout("campari", ("latent_cameras.", "decoder.net_view.1.weight"), title="CAMPARI"),
    Layout("texture_fields", ("decoder.fc_cz_0.weight", "geometry_encoder."), title="Texture Fields"),
    Layout("occupancy_flow", ("vector_field.fc_p.weight",), title="Occupancy Flow"),
    Layout("onet", ("decoder.fc_p.weight", "decoder.block0."), never=("vector_field.",), title="Occupancy Networks"),
    Layout("convonet", ("decoder.fc_c.0.weight", "decoder.blocks.0.fc_0.weight", "encoder."),
           never=("encoder.features.", "vector_field."), title="Convolutional Occupancy Networks"),
    Layout("dvr", ("decoder.fc_p.weight", "decoder.blocks.0.fc_0.weight", "decoder.fc_out.weight"),
           never=("vector_field.", "encoder.fc_pos.weight"), title="Differentiable Volumetric Rendering"),
    Layout("nerf", ("pts_linears.0.weight", "views_linears.0.weight"), title="NeRF"),
)  # fmt: skip
"""Asked in order; the first that fits counts. NeRF's keys serve GRAF too, see `recognise`."""
NAMES = frozenset({layout.name for layout in LAYOUTS} | {"graf"})
NERF_POSITIONS = 63
"""Inputs of NeRF's first layer; GRAF appends its code of the shape."""


def recognise(keys: Mapping[str, Any], path: Path) -> str:
    """The system of a weight file: key -> anything with a `shape`.

    Raises:
        InputError: WEIGHTS_UNKNOWN, naming some of the keys.
    """
    for layout in LAYOUTS:
        if layout.fits(keys):
            width = tuple(keys["pts_linears.0.weight"].shape) if layout.name == "nerf" else ()
            return "graf" if len(width) == 2 and width[1] > NERF_POSITIONS else layout.name
    some = ", ".join(list(keys)[:4])
    raise InputError(
        "WEIGHTS_UNKNOWN",
        f"{path.name} belongs to no system that Maquette knows; its weights are called {some} ...",
        "Choose a file of one of the listed models.",
    )


def network_keys(content: Sorted, path: Path) -> dict[str, Any]:
    """The weights to use: the moving average of a generator where there is one, without wrapping prefixes.

    Raises:
        InputError: WEIGHTS_NO_TENSORS.
    """
    groups = content.groups
    if any(name in groups for name in WHOLE):
        return without_wrapper(
            {f"{group}.{key}": leaf for group, leaves in groups.items() for key, leaf in leaves.items()}
        )
    names = [name for name in (*AVERAGES, *PLAIN, "") if name in groups]
    names += [name for name in groups if name not in names]
    if not names:
        raise no_tensors(path)
    keys = without_wrapper(groups[names[0]])
    for prefix in PREFIXES:
        part = {key.removeprefix(prefix): leaf for key, leaf in keys.items() if key.startswith(prefix)}
        if part:
            return without_wrapper(part)
    return keys


def without_wrapper(leaves: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Keys without the `module.` that training on several cards puts before or into them."""
    return {key.removeprefix("module.").replace(".module.", "."): leaf for key, leaf in leaves.items()}


def _has(keys: Mapping[str, Any], wanted: str) -> bool:
    return any(key.startswith(wanted) for key in keys) if wanted.endswith(".") else wanted in keys
