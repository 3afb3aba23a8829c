# SPDX-License-Identifier: GPL-3.0-or-later
"""Weight files of every published system to networks: the settings are read off the weights, or a file beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, MissingError
from ..models.campari import generator as campari
from ..models.convonet import network as convonet
from ..models.depth_anything.model import DepthAnything
from ..models.dvr import network as dvr
from ..models.eg3d.encoder import PoseEncoder
from ..models.eg3d.files import generator_from
from ..models.face_parser.network import FaceParser
from ..models.giraffe import generator as giraffe
from ..models.loftr.network import LoFTR, LoFTRConfig
from ..models.lrm.configuration import read_configuration
from ..models.lrm.openlrm import ENCODERS, OpenLRM, OpenLRMConfig
from ..models.lrm.triposr import TripoSR, TripoSRConfig
from ..models.nerf import network as nerf
from ..models.occupancy_flow import network as occupancy_flow
from ..models.onet import network as onet
from ..models.parts.key_layout import KeyLayout, load_public
from ..models.parts.key_shapes import Shapes, count, shapes_of
from ..models.sd_vae.layouts import vae_from_public, without_prefix
from ..models.sd_vae.network import VaeConfig
from ..models.sparseneus.model import SparseNeuS, SparseNeuSConfig
from ..models.texture_fields import network as texture_fields
from ..models.zero123.layouts import zero123_from_public
from ..models.zero123.model import Zero123Config
from .layouts import network_keys, recognise
from .safe_loader import check_finite, read_checkpoint, release

Weights = Mapping[str, Tensor]
OPTIONAL = KeyLayout(optional=r"num_batches_tracked$|\.f$", ignored=r"^discriminator\.")


@dataclass(frozen=True)
class Source:
    """Where weights come from, for what they do not say themselves."""

    path: Path
    settings: Mapping[str, Any]
    """Dictionaries beside the weights in the same file."""
    dtype: torch.dtype | None = None
    """Wanted for the large networks; None: float32."""
    release: Callable[[Tensor], None] | None = None
    """Told of every tensor that has been converted (`safe_loader.release`); None: the file is not mapped."""

    def configuration(self, name: str) -> dict[str, Any] | None:
        """The published configuration file that lies beside the weights, None where there is none.

        Raises:
            InputError: CONFIG_UNREADABLE.
        """
        file = self.path.with_name(name)
        if not file.is_file():
            return None
        try:
            return read_configuration(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                "CONFIG_UNREADABLE",
                f"{file.name} beside {self.path.name} cannot be read.",
                "Download it again.",
            ) from error


def load_network(path: Path, dtype: torch.dtype | None = None) -> tuple[str, nn.Module]:
    """Read a weight file of any known system.

    Args:
        path: the file, or a folder of the diffusers library.
        dtype: of the weights of TripoSR, OpenLRM, Zero123, the autoencoder and Depth Anything; None: float32.

    Returns:
        name of the system (`onet`, `graf` ...) and its network in eval mode, float32 unless told otherwise, on the CPU.

    Raises:
        MissingError: WEIGHTS_MISSING, NETWORK_MISSING.
        InputError: see `read_checkpoint`, `recognise`; WEIGHTS_NOT_FINITE; WEIGHTS_MISMATCH lists missing, extra and
            wrongly shaped keys; CONFIG_UNREADABLE, CONFIG_UNKNOWN.
        FailedError: OUT_OF_MEMORY.
    """
    content = read_checkpoint(path)
    tensors: dict[str, Tensor] = network_keys(content, path)
    name = recognise(tensors, path)
    if name not in NETWORKS:
        raise MissingError(
            "NETWORK_MISSING", f"{path.name} is {name}, which this version cannot run.", "Update Maquette."
        )
    try:
        source = Source(path, content.settings, dtype, release if content.mapped else None)
        network = NETWORKS[name](tensors, source).eval()
    except (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError, RuntimeError) as error:
        raise InputError(
            "WEIGHTS_MISMATCH",
            f"{path.name} looks like {name}, but weights are missing or misshapen: {error}.",
            "Download the file again.",
        ) from error
    check_finite(network.state_dict(), path)
    return name, network


def _by_shapes(build: Callable[[Shapes, str], nn.Module]) -> Callable[[Weights, Source], nn.Module]:
    """Loader of a system whose settings follow from its key shapes (and in part from the file's name)."""

    def load(tensors: Weights, source: Source) -> nn.Module:
        with torch.device("meta"):
            network = build(shapes_of(tensors), source.path.stem)
        load_public(network, tensors, OPTIONAL)
        return network

    return load


def _triposr(tensors: Weights, source: Source) -> nn.Module:
    public = source.configuration("config.yaml")
    config = TripoSRConfig.from_public(public, TRIPOSR.encoder) if public else TRIPOSR
    return TripoSR.from_public(tensors, config, source.dtype or torch.float32)


def _openlrm(tensors: Weights, source: Source) -> nn.Module:
    kwargs = source.settings.get("kwargs", {})
    public = source.configuration("config.json") or kwargs.get("model")
    config = OpenLRMConfig.from_public(public) if public else _openlrm_sizes(shapes_of(tensors))
    return OpenLRM.from_public(tensors, config, source.dtype or torch.float32)


def _openlrm_sizes(shapes: Shapes) -> OpenLRMConfig:
    """Without its configuration: all released models of 1.1 have heads 64 wide (`small`, `base`, `large`)."""
    old = "transformer.pos_embed" in shapes
    prefix = "transformer." if old else ""
    tokens, width = shapes[f"{prefix}pos_embed"][1:]
    table = shapes["encoder.model.embeddings.position_embeddings" if old else "encoder.model.pos_embed"]
    encoders = {e.width: e for name, e in ENCODERS.items() if name.startswith("facebook") == old}
    return OpenLRMConfig(
        version="1.0" if old else "1.1",
        encoder=encoders[table[-1]],
        camera_width=shapes["camera_embedder.mlp.2.weight"][0],
        width=width,
        layers=count(shapes, "transformer.layers.{}.norm1.norm.weight"),
        heads=width // 64,
        plane=round((tokens / 3) ** 0.5),
        features=shapes["transformer.deconv.bias" if old else "upsampler.bias"][0],
        samples=128 if width >= 1024 else 96,
    )


def _vae(tensors: Weights, source: Source) -> nn.Module:
    """Widths and levels from the encoder, in either naming; our own smaller ones have the same keys."""
    own = shapes_of(without_prefix(tensors))
    channels = own["encoder.conv_in.weight"][0]
    diffusers = any("down_blocks" in key for key in own)
    place = "encoder.down_blocks.{}.resnets.{}" if diffusers else "encoder.down.{}.block.{}"
    levels = count(own, place.format("{}", 0) + ".conv1.weight")
    config = VaeConfig(
        channels,
        tuple(own[place.format(i, 0) + ".conv1.weight"][0] // channels for i in range(levels)),
        count(own, place.format(0, "{}") + ".conv1.weight"),
        own["quant_conv.weight"][0] // 2,
    )
    return vae_from_public(tensors, config, source.dtype)


def _convonet(shapes: Shapes, stem: str) -> nn.Module:
    """Resolutions by the published name, otherwise by the depth of the U-Nets, as all public models have them."""
    known = {
        name.split("/")[1]: settings
        for name, settings in convonet.PUBLISHED.items()
        if "/shape" in name or "/room" in name
    }
    settings = known.get(stem)
    if settings is None:
        sides: dict[str, int] = {}
        if depth := count(shapes, "encoder.unet.down_convs.{}.conv1.weight"):
            planes = ("xz",) if "1plane" in stem else ("xz", "xy", "yz")
            sides |= dict.fromkeys(planes, 2 ** (depth + 2))
        if levels := count(shapes, "encoder.unet3d.encoders.{}.basic_module.SingleConv2.conv.weight"):
            sides["grid"] = 2 ** (levels + 2)
        settings = convonet.ConvonetSettings(sides)
    return convonet.ConvOccupancyNetwork(shapes, replace(settings, crop="crop" in stem))


def _campari(shapes: Shapes, stem: str) -> nn.Module:
    like = next((config for name, config in campari.PUBLISHED.items() if stem.startswith(name)), None)
    if like is None:
        like = campari.PUBLISHED["carla" if shapes["latent_cameras.fc_in.weight"][1] == 8 else "celeba"]
    return campari.Campari(campari.config_from(shapes, like.fov, like.white))


TRIPOSR, ZERO123, LOFTR, SPARSENEUS = TripoSRConfig(), Zero123Config(), LoFTRConfig(), SparseNeuSConfig()
"""Sizes of what exists in one size only, or whose file does not say."""

NETWORKS: dict[str, Callable[[Weights, Source], nn.Module]] = {
    "triposr": _triposr,
    "openlrm": _openlrm,
    "zero123": lambda tensors, source: zero123_from_public(tensors, ZERO123, source.dtype, source.release),
    "sparseneus": lambda tensors, _: SparseNeuS.from_public(tensors, SPARSENEUS),
    "loftr": lambda tensors, _: LoFTR.from_public(tensors, LOFTR),
    "sd_vae": _vae,
    "depth_anything": lambda tensors, source: DepthAnything.from_public(tensors, source.dtype),
    "eg3d": lambda tensors, source: generator_from(tensors, source.settings, source.path),
    "eg3d_encoder": lambda tensors, _: PoseEncoder.from_public(tensors),
    "face_parser": _by_shapes(lambda _, __: FaceParser()),
    "giraffe": _by_shapes(lambda shapes, _: giraffe.Giraffe(giraffe.config_from(shapes))),
    "campari": _by_shapes(_campari),
    "texture_fields": _by_shapes(
        lambda shapes, _: texture_fields.TextureField(texture_fields.config_from(shapes))
    ),
    "occupancy_flow": _by_shapes(
        lambda shapes, _: occupancy_flow.OccupancyFlow(occupancy_flow.config_from(shapes))
    ),
    "onet": _by_shapes(lambda shapes, _: onet.OccupancyNetwork(onet.config_from(shapes))),
    "convonet": _by_shapes(_convonet),
    "dvr": _by_shapes(lambda shapes, _: dvr.DvrNetwork(dvr.config_from(shapes))),
    "nerf": _by_shapes(lambda shapes, _: nerf.NerfMlp(nerf.config_from(shapes))),
    "graf": _by_shapes(lambda shapes, _: nerf.NerfMlp(nerf.config_from(shapes))),
}
"""Layout -> loader."""
