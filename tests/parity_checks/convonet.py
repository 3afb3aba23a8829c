# SPDX-License-Identifier: GPL-3.0-or-later
"""Convolutional Occupancy Networks: encoders, decoders, sliding window, full-size logits, key tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from maquette.core.models.convonet import crops, features
from maquette.core.models.convonet.network import PUBLISHED, ConvOccupancyNetwork, ConvonetSettings
from maquette.core.models.convonet.pointnet2 import Sampling
from maquette.core.models.onet.generation import logit
from maquette.core.models.parts.key_shapes import shapes_of
from torch import Tensor

from ..reference.classic_cubes import marching_cubes
from .fixture import Check, Fixture, pick_set
from .formula_weights import fill_by_formula
from .networks import filled, key_tables, tensors

SMALL_SAMPLINGS = (Sampling(32, 0.3, 8), Sampling(8, 0.6, 8))
"""Of the case pointconv_small: no file states them; found by trying, one choice gives the stored features to 1e-6."""


def network(weights: Mapping[str, Any], settings: ConvonetSettings) -> ConvOccupancyNetwork:
    return filled(ConvOccupancyNetwork(shapes_of(tensors(weights)), settings), weights)


def sides(fixture: Fixture, case: str) -> dict[str, int]:
    """Active maps of a case and their sides, from the arrays of its feature maps."""
    found = {}
    for name in ("xz", "xy", "yz", "grid"):
        if f"{case}/out/fea_{name}" in fixture.expected:
            found[name] = fixture.expected[f"{case}/out/fea_{name}"].shape[-1]
    return found


def check_small(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    given = tensors(fixture.group("in"))
    for case in fixture.cases():
        if case == "crop":
            yield from _crop(fixture)
            continue
        settings = ConvonetSettings(
            sides(fixture, case),
            pooling="mean" if "nounet" in case else "max",
            sample_mode="nearest" if "nearest" in case else "bilinear",
            leaky="nounet" in case,
            samplings=SMALL_SAMPLINGS,
        )
        model = network(fixture.group(f"{case}/w"), settings)
        source = given["voxels" if case.startswith("voxel") else "cloud"]
        maps = model.encode(source)
        query = given["query"][: len(source)]
        if "points" in maps:
            yield f"{case}/out/fea_points", maps["features"]
            query = query[:, : fixture.expected[f"{case}/out/logits"].shape[1]]
        else:
            yield from ((f"{case}/out/fea_{name}", value) for name, value in maps.items())
        yield f"{case}/out/logits", model.decode(query, maps)
    yield from _normalised(fixture, given["cloud"])


def _normalised(fixture: Fixture, cloud: Tensor) -> Iterator[tuple[str, Any]]:
    """Coordinates and cells; the resolutions are those of the other cases' maps."""
    plane = next(s for case in fixture.cases() for n, s in sides(fixture, case).items() if n != "grid")
    grid = next(s for case in fixture.cases() for n, s in sides(fixture, case).items() if n == "grid")
    for name in fixture.expected:
        if name.startswith("norm/"):
            which = next(axes for axes in features.AXES if axes in name)
            v = features.normalise(cloud, which)
            side = grid if which == "grid" else plane
            yield name, features.cell_index(v, side)[:, None] if "index" in name else v


def _crop(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    expected = fixture.neighbour("convonet_expected.json")["crop"]
    unit, query = expected["unit_size"], expected["query_vol_size"]
    weights = fixture.group("crop/w")
    levels = sum(key.endswith("SingleConv1.conv.weight") and "encoders" in key for key in weights)
    resolution = crops.rounded_resolution(query + crops.receptive_field(levels) - 1, levels)
    model = network(weights, ConvonetSettings({"grid": resolution}, crop=True, unit=unit))
    scene = torch.from_numpy(fixture.expected["crop/in/scene"])
    tiling = crops.tile_scene(scene[0].numpy(), query, resolution, unit)
    yield "crop/out/query_vol", tiling.query_volumes()
    yield "crop/out/input_vol", tiling.input_volumes()
    threshold, samples = expected["threshold"], expected["resolution0"]
    whole = crops.scene_grid(model, scene, tiling, samples, 0, threshold)
    yield "crop/out/occ_grid", whole
    for name in fixture.expected:
        if name.startswith("crop/out/occ_grid_mise"):
            yield name, crops.scene_grid(model, scene, tiling, *mise_steps(fixture, query), threshold)
    vertices, faces = marching_cubes(np.pad(whole, 1, constant_values=-1e6), logit(threshold))
    origin, cell = crops.scene_from_index(tiling, samples, 0)
    yield "crop/out/vertices", (vertices - 1.0) * cell + origin
    yield "crop/out/faces", faces


def mise_steps(fixture: Fixture, query: int) -> tuple[int, int]:
    """sizes.json says in words: query 8 as [4,1] ..."""
    words = str(pick_set_of(fixture).get("occ_grid_mise", ""))
    found = re.search(rf"query {query} as \[(\d+), ?(\d+)\]", words)
    return (int(found[1]), int(found[2])) if found else (query // 2, 1)


def pick_set_of(fixture: Fixture) -> dict[str, Any]:
    grid = next(s for case in fixture.cases() for n, s in sides(fixture, case).items() if n == "grid")
    return pick_set(fixture.sizes("convonet_small"), grid=grid)


def check_numbers(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    wanted = fixture.neighbour(fixture.path.name)
    for name in wanted["update_reso"]:
        voxels, levels = map(int, name.split(","))
        yield f"update_reso/{name}", crops.rounded_resolution(voxels, levels)
    crop = wanted["crop"]
    levels, query = crop["num_levels"], crop["query_vol_size"]
    scene = fixture.neighbour("convonet_small.safetensors")["crop/in/scene"]
    field = crops.receptive_field(levels)
    resolution = crops.rounded_resolution(query + field - 1, levels)
    yield "crop/recep_field", field
    yield "crop/reso", resolution
    yield "crop/axis_n_crop", list(crops.tile_scene(scene[0], query, resolution, crop["unit_size"]).counts)


def check_full(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    given = tensors(fixture.arrays())
    tables = fixture.neighbour("keys_convonet.json")
    packed = np.unpackbits(fixture.neighbour("onet_full_pw.npz")["in_voxels_packed"])
    side = round(len(packed) ** (1 / 3))
    voxels = torch.from_numpy(packed.reshape(1, side, side, side).astype(np.float32))
    for name in fixture.expected:
        if not name.endswith("_logits"):
            continue
        case = name.removesuffix("_logits")
        config = (
            f"voxel/shapenet_{case.removeprefix('voxel_')}"
            if case.startswith("voxel")
            else f"pointcloud/{case}"
        )
        shapes = {key: tuple(shape) for key, shape, _ in tables[f"{config}.yaml"]["keys"]}
        model = ConvOccupancyNetwork(shapes, PUBLISHED[config])
        fill_by_formula(model, fixture)
        maps = model.encode(voxels if case.startswith("voxel") else given["in_cloud"])
        yield name, model.decode(given["in_points"], maps)
        for which, value in maps.items():
            if f"{case}_fea_{which}_corner" in fixture.expected:
                yield f"{case}_fea_{which}_mean_std", torch.stack([value.mean(), value.std()])
                yield (
                    f"{case}_fea_{which}_corner",
                    _corner(value, fixture.expected[f"{case}_fea_{which}_corner"]),
                )


def _corner(feature_map: Tensor, like: np.ndarray[Any, Any]) -> Tensor:
    """The first cells of the first channels, as many as the expected array holds."""
    channels, cells = like.shape
    return feature_map[0].flatten(1)[:channels, :cells]


def _table(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.nn.Module]:
    return {"": ConvOccupancyNetwork(shapes, PUBLISHED[name.removesuffix(".yaml")])}


GIVEN = ("crop/unit_size", "crop/query_vol_size", "crop/num_levels", "crop/threshold", "crop/resolution0")
CHECKS = {
    "convonet_small.safetensors": Check(check_small),
    "convonet_full_pw.npz": Check(check_full),
    "convonet_expected.json": Check(check_numbers, inputs=GIVEN),
    "keys_convonet.json": Check(key_tables(_table)),
}
