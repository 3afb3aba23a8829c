# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture Fields: shape codes, colours, unprojected pictures, discriminator, VAE encoder, key tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from maquette.core.models.parts.key_shapes import shapes_of
from maquette.core.models.texture_fields import image_networks, network

from .fixture import Check, Fixture
from .networks import filled, key_tables, tensors


def check_small(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    given = tensors(fixture.group("in"))
    depth = torch.where(given["depth_inf_as_minus1"] < 0, torch.inf, given["depth_inf_as_minus1"])
    points, mask = network.unproject_depth(depth, given["cam_K"], given["cam_W"])
    yield "out/loc3d", points.mT  # stored column by column
    yield "out/mask", mask.mT
    for case in fixture.cases():
        weights, inputs = fixture.group(f"{case}/w"), tensors(fixture.group(f"{case}/in"))
        shapes = shapes_of(tensors(weights))
        if case == "disc":
            discriminator = image_networks.TextureDiscriminator(
                *image_networks.image_widths(shapes, "fc.weight")
            )
            yield "disc/out/d", filled(discriminator, weights)(inputs["x"], inputs["depth"])
        elif case == "vae":
            widths, side = image_networks.image_widths(shapes, "fc_mean.weight")
            encoder = image_networks.ImageEncoder(
                widths, side, shapes["fc_mean.weight"][0], inputs["c"].shape[1]
            )
            mean, logstd = filled(encoder, weights)(inputs["x"], inputs["c"])
            yield "vae/out/mean", mean
            yield "vae/out/logstd", logstd
        elif case not in ("in", "out"):
            field = filled(network.TextureField(network.config_from(shapes)), weights)
            c = field.encode_shape(given["points"].mT, given["normals"].mT)
            yield f"{case}/out/geom", c
            yield f"{case}/out/rgb_query", field(inputs["query"].mT, c, inputs["z"]).mT
            yield f"{case}/out/image", network.render(field, points, mask, c, inputs["z"])


def _table(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.nn.Module]:
    if "decoder.conv_p.weight" not in shapes:
        return {"": image_networks.TextureDiscriminator(*image_networks.image_widths(shapes, "fc.weight"))}
    return {"": network.TextureField(network.config_from(shapes))}


CHECKS = {
    "texturefields_small.safetensors": Check(check_small),
    "keys_texturefields.json": Check(key_tables(_table)),
}
