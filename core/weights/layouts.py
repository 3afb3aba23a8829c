# SPDX-License-Identifier: GPL-3.0-or-later
"""Which published system a weight file belongs to, told from its keys alone.

To add a system, add a line to `LAYOUTS`: what its keys must look like and how its network is made from their shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.campari import generator as campari
from ..models.convonet import network as convonet
from ..models.dvr import network as dvr
from ..models.giraffe import generator as giraffe
from ..models.graf import generator as graf
from ..models.nerf import network as nerf
from ..models.occupancy_flow import network as occupancy_flow
from ..models.onet import network as onet
from ..models.parts.key_layout import KeyLayout, load_public
from ..models.parts.key_shapes import Shapes, count, has, shapes_of
from ..models.texture_fields import network as texture_fields
from .safe_loader import read_checkpoint

IGNORED = KeyLayout(optional=r"num_batches_tracked$|\.f$", ignored=r"^discriminator\.")


@dataclass(frozen=True)
class Layout:
    """One published system."""

    name: str
    needs: tuple[str, ...]
    """Keys, or beginnings of keys that end in a dot, that must all be there."""
    build: Callable[[Shapes, str], nn.Module]
    """(key shapes, name of the file without suffix) -> network; the name helps where weights do not say everything."""
    never: tuple[str, ...] = ()
    """Keys or beginnings that must not be there."""
    keys: KeyLayout = IGNORED

    def fits(self, shapes: Shapes) -> bool:
        """Whether the keys are those of this system."""
        found = [
            has(shapes, key) if key.endswith(".") else key in shapes for key in (*self.needs, *self.never)
        ]
        return all(found[: len(self.needs)]) and not any(found[len(self.needs) :])


def _is_graf(shapes: Shapes) -> bool:
    return shapes["pts_linears.0.weight"][1] > graf.POSITION_DIM


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


LAYOUTS: tuple[Layout, ...] = (
    Layout("giraffe", ("neural_renderer.", "background_generator."), lambda s, _: giraffe.Giraffe(giraffe.config_from(s))),
    Layout("campari", ("latent_cameras.", "decoder.net_view.1.weight"), _campari),
    Layout("texture_fields", ("decoder.fc_cz_0.weight", "geometry_encoder."),
           lambda s, _: texture_fields.TextureField(texture_fields.config_from(s))),
    Layout("occupancy_flow", ("vector_field.fc_p.weight",),
           lambda s, _: occupancy_flow.OccupancyFlow(occupancy_flow.config_from(s))),
    Layout("onet", ("decoder.fc_p.weight", "decoder.block0."), lambda s, _: onet.OccupancyNetwork(onet.config_from(s)),
           never=("vector_field.",)),
    Layout("convonet", ("decoder.fc_c.0.weight", "decoder.blocks.0.fc_0.weight", "encoder."), _convonet,
           never=("encoder.features.", "vector_field.")),
    Layout("dvr", ("decoder.fc_p.weight", "decoder.blocks.0.fc_0.weight", "decoder.fc_out.weight"),
           lambda s, _: dvr.DvrNetwork(dvr.config_from(s)), never=("vector_field.", "encoder.fc_pos.weight")),
    Layout("nerf", ("pts_linears.0.weight", "views_linears.0.weight"), lambda s, _: nerf.NerfMlp(nerf.config_from(s))),
)  # fmt: skip
"""Asked in order; the first that fits counts."""


def recognise(tensors: Mapping[str, Tensor], path: Path) -> Layout:
    """The system of a weight file.

    Raises:
        InputError: WEIGHTS_UNKNOWN, naming some of the keys.
    """
    shapes = shapes_of(tensors)
    for layout in LAYOUTS:
        if layout.fits(shapes):
            return replace(layout, name="graf") if layout.name == "nerf" and _is_graf(shapes) else layout
    some = ", ".join(list(tensors)[:4])
    raise InputError(
        "WEIGHTS_UNKNOWN",
        f"{path.name} belongs to no system that Maquette knows; its weights are called {some} ...",
        "Choose a file of one of the listed models.",
    )


def load_network(path: Path) -> tuple[str, nn.Module]:
    """Read a weight file of any known system.

    Returns:
        name of the system (`onet`, `graf` ...) and its network in eval mode, float32 on the CPU.

    Raises:
        MissingError, InputError: see `read_checkpoint`, `recognise`; WEIGHTS_MISMATCH lists missing, extra and
            wrongly shaped keys.
    """
    tensors = read_checkpoint(path).network()
    layout = recognise(tensors, path)
    try:
        with torch.device("meta"):
            network = layout.build(shapes_of(tensors), path.stem)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            "WEIGHTS_MISMATCH",
            f"{path.name} looks like {layout.name}, but weights are missing or misshapen: {error}.",
            "Download the file again.",
        ) from error
    load_public(network, tensors, layout.keys)
    return layout.name, network
