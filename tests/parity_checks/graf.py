# SPDX-License-Identifier: GPL-3.0-or-later
"""GRAF: renders, patches, cameras, discriminator, full size, key tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from maquette.core.models.graf import cameras, discriminator, generator
from maquette.core.models.nerf import network
from maquette.core.models.nerf.rendering import Composite, camera_rays
from maquette.core.models.parts.key_shapes import shapes_of
from maquette.core.models.parts.sphere_poses import polar_from_v
from torch import Tensor

from .fixture import Check, Fixture
from .formula_weights import fill_by_formula
from .networks import filled, key_tables, tensors


def data_of(case: str, sizes: dict[str, Any]) -> generator.GrafData:
    """A published data set with the fixture's radius and depths."""
    radius = float(sizes["radius"])
    name = {"celeba": "celebA"}.get(case, case)
    highest = float(sizes.get(f"{case}_radius_max", radius))
    near, far = sizes["near_far"]
    return replace(
        generator.PUBLISHED[name], radius=(min(radius, 2 * radius - highest), highest), near=near, far=far
    )


def pictures(result: Composite) -> dict[str, Tensor]:
    return {"rgb": 2 * result.rgb - 1, "disp": 2 * result.disparity - 1, "acc": 2 * result.opacity - 1}


def check_small(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    sizes, z = fixture.sizes(), tensors(fixture.group("in"))["z"]
    for case in ("carla", "celeba", "cub"):
        weights, given = fixture.group(f"{case}/w"), tensors(fixture.group(f"{case}/in"))
        model = filled(network.NerfMlp(network.config_from(shapes_of(tensors(weights)))), weights)
        size = tuple(fixture.expected[f"{case}/out/rgb"].shape[1:3])
        focal, data = float(given["focal"]), data_of(case, sizes)
        rays, renders = [], []
        for pose, code in zip(given["poses"], z, strict=True):
            matrix = torch.tensor([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]])
            rays.append(torch.stack(camera_rays(*size, matrix, pose)).flatten(1, 2))
            renders.append(
                pictures(generator.render(model, pose, code[None], data, size, focal, sizes["samples"]))
            )
        yield f"{case}/out/rays", torch.cat(rays, 1)
        for name in ("rgb", "disp", "acc"):
            yield f"{case}/out/{name}", torch.stack([r[name] for r in renders])
    yield from _patches(fixture, sizes)
    pose = tensors(fixture.group("carla/in"))["poses"][0]
    pixels, window = sizes["ortho_size"]
    yield from zip(
        ("ortho/o", "ortho/d"),
        generator.orthographic_rays(pixels, pixels, pose, (window, window)),
        strict=True,
    )
    data = data_of("carla", sizes)
    for name in fixture.expected:
        if name.startswith("poses/rotation"):
            yield name, cameras.rotation_poses(data, sizes["rotation_poses"])
        if name.startswith("poses/elev"):
            yield name, cameras.elevation_poses(data, sizes["elevation_poses"])
    yield from _discriminator(fixture)


def _patches(fixture: Fixture, sizes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    side = sizes["patch_grid"]
    yield from zip(("patch/base_h", "patch/base_w"), discriminator.base_lattice(side), strict=True)
    torch.manual_seed(0)
    lattice, _ = discriminator.random_patch(side, discriminator.least_scale(10**9))
    yield "patch/grid_seed0", lattice
    name = next(n for n in fixture.expected if n.startswith("patch/grid_scale"))
    fixed = discriminator.patch_lattice(side, *map(float, re.findall(r"-?\d+\.?\d*", name)))
    yield name, fixed
    image = torch.from_numpy(fixture.expected["patch/in_image"])
    yield "patch/image_patch", discriminator.sample_patch(image, fixed)
    pixels = sizes["patch_image"]
    focal = generator.focal_of(pixels, sizes["ray_dirs_fov"])
    matrix = torch.tensor([[focal, 0, pixels / 2], [0, focal, pixels / 2], [0, 0, 1]])
    _, directions = camera_rays(pixels, pixels, matrix, tensors(fixture.group("carla/in"))["poses"][0])
    sampled = discriminator.sample_patch(directions.permute(2, 0, 1)[None], fixed)
    yield "patch/ray_dirs", sampled[0].flatten(1).T


def _discriminator(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    weights, x = fixture.group("disc/w"), tensors(fixture.group("disc/in"))["x"]
    model = filled(_patch_discriminator(shapes_of(tensors(weights))), weights)
    yield "disc/out/logit_eval", model(x)
    yield "disc/out/logit_train_first", model.train()(x)


def _patch_discriminator(shapes: dict[str, tuple[int, ...]]) -> discriminator.PatchDiscriminator:
    convolutions = [shape[0] for key, shape in shapes.items() if key.endswith("weight_orig")]
    return discriminator.PatchDiscriminator(sorted(convolutions)[1:])


def check_numbers(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    sizes = fixture.sizes("graf_small")
    for name in fixture.expected:
        if name.startswith("min_scale_it"):
            yield name, discriminator.least_scale(int(name.removeprefix("min_scale_it")))
        elif name.startswith("to_phi/theta/"):
            yield name, polar_from_v(float(name.split("(")[1].rstrip(")")))
    torch.manual_seed(0)
    _, scale = discriminator.random_patch(sizes["patch_grid"], discriminator.least_scale(10**9))
    yield "patch_seed0_scale", scale


def check_full(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    sizes, given = fixture.sizes(), tensors(fixture.arrays())
    table = next(iter(fixture.neighbour("keys_graf.json").values()))
    shapes = {key: tuple(shape) for key, shape, _ in table["keys"]}
    model = fill_by_formula(network.NerfMlp(network.config_from(shapes)), fixture)
    size = tuple(fixture.expected["rgb"].shape[:2])
    data = data_of("carla", sizes)
    result = generator.render(
        model, given["pose"], given["z"], data, size, float(given["focal"]), sizes["samples"]
    )
    yield from pictures(result).items()


def _table(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.nn.Module]:
    if "pts_linears.0.weight" in shapes:
        return {"": network.NerfMlp(network.config_from(shapes))}
    return {"": _patch_discriminator(shapes)}


CHECKS = {
    "graf_small.safetensors": Check(check_small, inputs=("in/*", "*/in/*", "*/w/*", "patch/in_image")),
    "graf_expected.json": Check(check_numbers),
    "graf_full_pw.npz": Check(check_full, inputs=("z", "pose", "focal")),
    "keys_graf.json": Check(key_tables(_table)),
}
