# SPDX-License-Identifier: GPL-3.0-or-later
"""GIRAFFE: scenes, pieces, discriminators, losses, full size, key tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from maquette.core.models.giraffe import generator, priors, renderer
from maquette.core.models.parts.fourier import giraffe_encoding
from maquette.core.models.parts.gan_losses import bce_loss, r1_per_item
from maquette.core.models.parts.key_shapes import shapes_of, under
from maquette.core.models.parts.sphere_poses import slerp
from torch import nn

from .fixture import Check, Fixture, pick_set
from .formula_weights import fill_by_formula, u_stream
from .networks import filled, key_tables, tensors


def check_small(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    discriminators = {}
    for case in fixture.cases():
        weights, given = fixture.group(f"{case}/w"), tensors(fixture.group(f"{case}/in"))
        if case.startswith("disc"):
            model = filled(renderer.discriminator_from(shapes_of(tensors(weights))), weights)
            images = given["x"].float() / 255.0
            discriminators[case] = model, images
            yield f"{case}/out/d", model(images)
        else:
            yield from _scene(fixture, case, weights, given)
    yield from _losses(discriminators, fixture)
    yield from _pieces(fixture)


def _scene(fixture: Fixture, case: str, weights: Any, given: Any) -> Iterator[tuple[str, Any]]:
    side = fixture.expected[f"{case}/out/feature_map"].shape[-1]
    sizes = pick_set(fixture.sizes(), ray_resolution=side, latent_object=given["z_app_obj"].shape[-1])
    config = generator.config_from(shapes_of(tensors(weights)), norm="use_norm" in case)
    model = filled(generator.Giraffe(config), weights)
    codes = generator.Codes(*(given[f"z_{n}"] for n in ("shape_obj", "app_obj", "shape_bg", "app_bg")))
    boxes = generator.Boxes(given["s"], given["t"], given["R"], given["bg_R"])
    camera = generator.Camera(given["camera_mat"], given["world_mat"])
    options = generator.RenderOptions(side, sizes["samples"], maximum="max_composition" in case)
    features = model.feature_picture(codes, boxes, camera, options)
    yield f"{case}/out/feature_map", features
    yield f"{case}/out/rgb", model.neural_renderer(features)
    yield f"{case}/out/alpha", model.object_mattes(codes, boxes, camera, options)
    yield f"{case}/out/rgb_no_bg", model(codes, boxes, camera, replace(options, background=False))
    yield f"{case}/out/rgb_only_bg", model(codes, boxes, camera, replace(options, objects=False))


def _losses(discriminators: dict[str, Any], fixture: Fixture) -> Iterator[tuple[str, Any]]:
    items = len(fixture.expected["loss/r1_per_item"])
    model, images = next(value for value in discriminators.values() if len(value[1]) == items)
    images = images.clone().requires_grad_(True)
    logits = model(images)
    yield "loss/bce_real", bce_loss(logits, True)[None]
    yield "loss/bce_fake", bce_loss(logits, False)[None]
    yield "loss/r1_per_item", r1_per_item(logits, images)


def _pieces(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    given = tensors(fixture.group("pieces"))
    for name in given:
        numbers = list(map(float, re.findall(r"(?:(?<=[a-z_])|^)\d+\.?\d*", name)))
        if name.startswith("camera_mat"):
            value: Any = generator.camera_matrix(numbers[0] if numbers else priors.GiraffePrior.fov_deg)
        elif name.startswith("world_mat"):
            value = generator.camera_pose(*numbers)
        elif name.startswith("rot_"):
            value = generator.rotation_about_z(numbers[0])[None]
        elif name.startswith("pixels"):
            value = generator.pixel_lattice(round(given[name].shape[1] ** 0.5))[None]
        elif name.startswith("posenc") and name != "posenc_in":
            value = giraffe_encoding(given["posenc_in"], given[name].shape[-1] // 6, generator.DOWNSCALE)
        elif name.startswith("slerp_") and "z" not in name:
            value = slerp(given["slerp_z1"], given["slerp_z2"], numbers[0])
        elif name == "blur_out":
            value = renderer.Blur()(given["blur_in"])
        elif name == "upsample_rgb_out":
            value = renderer.blurred_upsampling()(given["blur_in"])
        else:
            continue
        yield f"pieces/{name}", value


def check_full(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    sizes, streams = fixture.sizes(), fixture.sizes("u_streams")["giraffe_z"]
    tables = fixture.neighbour("keys_giraffe.json")
    for name in fixture.expected:
        if not name.endswith("_rgb"):
            continue
        case = name.removesuffix("_rgb")
        config_name = next(n.removesuffix(".yaml") for n in tables if n.endswith(f"{case}.yaml"))
        shapes = {key: tuple(shape) for key, shape, _ in tables[f"{config_name}.yaml"]["keys"]}
        config = generator.config_from(under(shapes, "generator."))
        model = generator.Giraffe(config)
        fill_by_formula(model, fixture)
        widths = [config.decoder.z_dim] * 2 + [config.background.z_dim] * 2
        z = [
            torch.from_numpy((2 * u_stream(s, w) - 1) * 1.7 * 0.65).float()
            for s, w in zip(streams, widths, strict=True)
        ]
        codes = generator.Codes(z[0][None, None], z[1][None, None], z[2][None], z[3][None])
        prior = priors.PRIORS[config_name]
        boxes = prior.boxes_at(
            [sizes["scale_value"]], [sizes["translation_value"]], [sizes["rotation_value"]]
        )
        features = model.feature_picture(codes, boxes, prior.camera_at(), generator.RenderOptions())
        kept = f"{case}_feature_map_ch0_7"
        yield kept, features[0, : len(fixture.expected[kept])]
        image = model.neural_renderer(features)[0]
        step = image.shape[-1] // fixture.expected[name].shape[-1]
        yield name, image[:, ::step, ::step]


def _table(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, nn.Module]:
    made = generator.config_from(under(shapes, "generator."))
    return {
        "discriminator.": renderer.discriminator_from(under(shapes, "discriminator.")),
        "generator.": generator.Giraffe(made),
        "generator_test.": generator.Giraffe(made),
    }


FEATURES = {"*feature_map*": 1e-3}
PIECES = ("pieces/*_in", "pieces/slerp_z?")
CHECKS = {
    "giraffe_small.safetensors": Check(check_small, ("*/in/*", "*/w/*", *PIECES), FEATURES),
    "giraffe_full_pw.npz": Check(check_full, (), FEATURES),
    "giraffe_expected.json": Check(
        lambda fixture: iter(()), inputs=("*",)
    ),  # settings of the scenes, all given
    "keys_giraffe.json": Check(key_tables(_table)),
}
