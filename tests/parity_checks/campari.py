# SPDX-License-Identifier: GPL-3.0-or-later
"""CAMPARI: cameras, fields, pictures, inverted sphere, discriminator, full size, key tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from maquette.core.models.campari import cameras, discriminator, generator
from maquette.core.models.parts.key_shapes import shapes_of, under
from torch import Tensor, nn

from .fixture import Check, Fixture
from .formula_weights import fill_by_formula, u_stream
from .networks import filled, key_tables, tensors


def published(case: str) -> generator.CampariConfig:
    return generator.PUBLISHED.get(case) or generator.PUBLISHED[f"{case}1"]


def model_of(fixture: Fixture, case: str) -> generator.Campari:
    weights, like = fixture.group(f"{case}/w"), published(case)
    config = generator.config_from(shapes_of(tensors(weights)), like.fov, like.white)
    return filled(generator.Campari(config), weights)


def pictures(image: generator.CampariImage) -> dict[str, Tensor]:
    opacity = image.opacity.expand_as(image.rgb)
    named = {"rgb": image.rgb, "rgb_fg": image.foreground, "rgb_bg": image.background, "acc_fg": opacity}
    return {name: value.permute(0, 3, 1, 2) for name, value in named.items()}


def posterior(cams: cameras.Cameras, dim: int) -> dict[str, Tensor]:
    angle = cams.reported_angle_deg if dim == 8 else cams.angle_deg
    return {
        "post_fx": cams.fov_x,
        "post_fy": cams.fov_y,
        "post_rot": angle,
        "post_ele": cams.elevation,
        "post_radius": cams.radius,
    }


def check_small(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    sizes = fixture.sizes()
    models = {case: model_of(fixture, case) for case in fixture.cases() if fixture.group(f"{case}/w")}
    for case, model in models.items():
        given = tensors(fixture.group(f"{case}/in"))
        wanted = fixture.group(f"{case}/out")
        cams = cameras.cameras_from(model.latent_cameras(given["prior_cam"]), model.config.fov)
        found = posterior(cams, model.config.camera_dim) | {"c2w": cams.pose()}
        found["near"], found["far"] = cams.depth_range()
        found["focal_x"] = cams.focal(sizes["nominal_image"])[0]
        if "post_rot_mat" in wanted:
            found["post_rot_mat"] = cams.rotation_matrix()
        one = cameras.Cameras(*(value[: len(given["z_fg"])] for value in cams))
        side = wanted["rgb"].shape[-1]
        found["rays_o"], found["rays_d"] = cameras.lattice_rays(one, side, sizes["nominal_image"])
        codes = given["z_fg"], given["z_bg"]
        found |= pictures(model(one, *codes, side, sizes["samples"], sizes["nominal_image"]))
        yield from ((f"{case}/out/{name}", value) for name, value in found.items())
    with_background = next(m for m in models.values() if m.config.background)
    yield from _explicit(fixture, with_background, sizes)
    yield from _pieces(fixture, with_background)


def _explicit(fixture: Fixture, model: generator.Campari, sizes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    given = tensors(fixture.group("explicit/in"))
    fx, fy, turn, elevation, radius = given["cam_fx_fy_rot_ele_radius"][:, None]
    cams = cameras.Cameras(fx, fy, cameras.rotation_2d(torch.deg2rad(turn)), elevation, radius)
    yield "explicit/out/c2w", cams.pose()
    side = fixture.expected["explicit/out/rgb"].shape[-1]
    image = model(cams, given["z_fg"], given["z_bg"], side, sizes["samples"], sizes["nominal_image"])
    yield from ((f"explicit/out/{name}", value) for name, value in pictures(image).items())


def _pieces(fixture: Fixture, model: generator.Campari) -> Iterator[tuple[str, Any]]:
    given = tensors(fixture.group("decoder/in"))
    ray = given["ray_dir"]
    density, colour = model.decoder(given["coords"], ray / ray.norm(dim=-1, keepdim=True), given["z"])
    yield "decoder/out/sigma_rgb", torch.cat([density[..., None], colour], -1)
    given = tensors(fixture.group("bgpts/in"))
    points, depth = generator.inverted_sphere(given["o"], given["d"], given["depth"])
    yield "bgpts/out/pts", points
    yield "bgpts/out/depth_real", depth
    yield "so2/out", cameras.nearest_rotation(torch.from_numpy(fixture.expected["so2/in"]))
    channels = discriminator.coordinate_channels(*fixture.expected["coordgrid/first"].shape[-2:])
    yield "coordgrid/first", channels[:, :1]
    yield "coordgrid/second", channels[:, 1:]


def check_numbers(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    modulus = fixture.sizes("campari_small")["disc_input_modulus"]
    table = next(iter(fixture.neighbour("keys_campari.json").values()))
    shapes = under({key: tuple(shape) for key, shape, _ in table["keys"]}, "discriminator.")
    model = fill_by_formula(discriminator.discriminator_from(shapes), fixture)
    for name in fixture.expected:
        if match := re.fullmatch(r"disc_pw_res(\d+)_it(\d+)", name):
            side, iteration = map(int, match.groups())
            values = (np.arange(3 * side * side) % modulus) / (modulus - 1)
            image = torch.from_numpy(values.astype(np.float32)).reshape(1, 3, side, side)
            yield name, float(model(image, iteration).detach())
        elif match := re.fullmatch(r"disc_blend_it(\d+)", name):
            yield name, list(discriminator.blend(int(match[1])))
    yield "skip_layers_used", _skips_matter(fixture)


def _skips_matter(fixture: Fixture) -> bool:
    """Whether the stored skip layers change anything."""
    arrays = Fixture(fixture.path.with_name("campari_small.safetensors"))
    case = arrays.cases()[0] if arrays.group(f"{arrays.cases()[0]}/w") else "celeba"
    model, given = model_of(arrays, case), tensors(arrays.group("decoder/in"))
    before = model.decoder(given["coords"], given["ray_dir"], given["z"])[1]
    model.decoder.skips[0].weight.add_(1.0)
    model.decoder.skips_c[0].weight.add_(1.0)
    return not torch.equal(before, model.decoder(given["coords"], given["ray_dir"], given["z"])[1])


def check_full(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    sizes, streams = fixture.sizes(), fixture.sizes("u_streams")["campari_z"]
    table = next(iter(fixture.neighbour("keys_campari.json").values()))
    shapes = under({key: tuple(shape) for key, shape, _ in table["keys"]}, "generator.")
    model = generator.Campari(generator.config_from(shapes))
    fill_by_formula(model, fixture)
    z = [
        torch.from_numpy((2 * u_stream(stream, model.config.field.c_dim) - 1) * 1.7 * 0.6).float()[None]
        for stream in streams
    ]
    cams = cameras.cameras_from(model.latent_cameras(tensors(fixture.arrays())["prior"]))
    yield from posterior(cams, model.config.camera_dim).items()
    side = fixture.expected["rgb"].shape[-1]
    yield from pictures(model(cams, z[0], z[1], side, sizes["samples"])).items()


def _table(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, nn.Module]:
    config = replace(generator.config_from(under(shapes, "generator.")), fov=published(name).fov)
    return {
        "generator.": generator.Campari(config),
        "discriminator.": discriminator.discriminator_from(under(shapes, "discriminator.")),
        "generator_test.": generator.Campari(config),
    }


CHECKS = {
    "campari_small.safetensors": Check(check_small, inputs=("*/in/*", "*/w/*", "so2/in")),
    "campari_expected.json": Check(check_numbers),
    "campari_full_pw.npz": Check(check_full, inputs=("prior",)),
    "keys_campari.json": Check(key_tables(_table)),
}
