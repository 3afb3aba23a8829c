# SPDX-License-Identifier: GPL-3.0-or-later
"""Occupancy Networks: decoders, encoders, loss, full-size logits, key tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from maquette.core.models.onet import decoders, encoders, evaluation, generation, network
from maquette.core.models.parts import resnet_blocks
from maquette.core.models.parts.key_shapes import shapes_of
from torch import Tensor

from ..reference.classic_cubes import closed_surface
from .fixture import Check, Fixture
from .formula_weights import fill_by_formula, u_stream
from .mise import measures
from .networks import filled, key_tables, tensors


def check_small(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    sizes = fixture.sizes()
    for case in fixture.cases():
        given, weights = tensors(fixture.group(f"{case}/in")), fixture.group(f"{case}/w")
        if case.startswith("dec_"):
            yield from _decoder(case, given, weights)
        elif case.startswith("block_"):
            yield f"{case}/out/y", _block(case, given, weights, sizes)
        elif case.startswith("enc_pointnet"):
            hidden, c_dim = weights["fc_pos.weight"].shape[0] // 2, weights["fc_c.weight"].shape[0]
            kind = encoders.ResnetPointnet if "resnet" in case else encoders.SimplePointnet
            yield f"{case}/out/c", filled(kind(c_dim, hidden), weights)(given["points"])
        elif case.startswith("lat_simple"):
            c = given.get("c", torch.zeros(len(given["p"]), 0))
            latent = encoders.LatentEncoder(
                weights["fc_mean.weight"].shape[0], c.shape[1], weights["fc_pos.weight"].shape[0]
            )
            mean, logstd = filled(latent, weights)(given["p"], given["occ"], c)
            yield f"{case}/out/mean", mean
            yield f"{case}/out/logstd", logstd
        elif case == "vae_loss":
            yield from _vae_loss(fixture, given, weights)


def _decoder(case: str, given: dict[str, Tensor], weights: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    config = decoders.decoder_config_from(shapes_of(tensors(weights)), leaky="leaky" in case)
    decoder = filled(decoders.decoder_from(config), weights)
    batch = len(given["p"])
    z, c = (given.get(name, torch.zeros(batch, 0)) for name in ("z", "c"))
    yield f"{case}/out/logits_eval", decoder(given["p"], z, c)
    if "batchnorm" in case:
        yield f"{case}/out/logits_train", decoder.train()(given["p"], z, c)


def _block(case: str, given: dict[str, Tensor], weights: dict[str, Any], sizes: dict[str, Any]) -> Tensor:
    hidden, size_in = weights["fc_0.weight"].shape[:2]
    size_out, x = weights["fc_1.weight"].shape[0], given["x"]
    if "resnetfc" in case:
        return filled(resnet_blocks.ResnetBlockFC(size_in, size_out, hidden), weights)(x)
    if "cresnet" in case:
        c_dim = given["c"].shape[1]
        assert sizes.get("block_cresnet_c_in_hidden_out", [c_dim])[0] == c_dim
        block = filled(resnet_blocks.CResnetBlockConv1d(c_dim, size_in, hidden, size_out), weights)
        return block(x.mT, given["c"]).mT
    return filled(resnet_blocks.ResnetBlockConv1d(size_in, hidden, size_out), weights)(x.mT).mT


def _vae_loss(
    fixture: Fixture, given: dict[str, Tensor], weights: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """The latent encoder is the one of another case: the case whose mean equals the one given here."""
    latent_weights = next(
        fixture.group(f"{case}/w")
        for case in fixture.cases()
        if case.startswith("lat_")
        and np.array_equal(fixture.expected.get(f"{case}/out/mean"), given["mean"].numpy())
    )
    decoder = decoders.decoder_config_from(shapes_of(tensors(weights)))
    model = network.OccupancyNetwork(
        network.OnetConfig(decoder, latent_hidden=latent_weights["fc_pos.weight"].shape[0])
    )
    filled(model.decoder, weights).requires_grad_(True)
    filled(model.encoder_latent, latent_weights).requires_grad_(True)
    c = torch.zeros(len(given["p"]), 0)
    z = given["mean"] + torch.exp(given["logstd"]) * given["eps"]
    logits = model.decode(given["p"], z, c)
    yield "vae_loss/out/z", z
    yield "vae_loss/out/logits", logits
    yield "vae_loss/out/kl_per_item", network.kl_per_item(given["mean"], given["logstd"])
    yield "vae_loss/out/rec_per_item", network.reconstruction_per_item(logits, given["occ"])
    loss = network.variational_loss(model, given["p"], given["occ"], c, given["eps"])
    loss.backward()
    yield "vae_loss/out/loss", loss[None]
    yield "vae_loss/out/grad_decoder.fc_z.weight", model.decoder.fc_z.weight.grad
    yield "vae_loss/out/grad_encoder.fc_mean.weight", model.encoder_latent.fc_mean.weight.grad


def check_full(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    given = tensors(fixture.arrays())
    shapes = {
        name.split(" ")[0]: {key: tuple(shape) for key, shape, _ in entry["keys"]}
        for name, entry in fixture.neighbour("keys_onet.json").items()
    }
    voxels = np.unpackbits(given["in_voxels_packed"].numpy())
    side = round(len(voxels) ** (1 / 3))
    inputs = {
        "img": given["in_image"],
        "img_legacy": given["in_image"],
        "pcl": given["in_cloud"],
        "vox": torch.from_numpy(voxels.reshape(1, side, side, side).astype(np.float32)),
        "uncond": None,
    }
    tables = {"pcl": "pointcloud", "vox": "voxels"}
    streams = fixture.sizes("u_streams")
    for case, value in inputs.items():
        config = network.config_from(shapes[f"onet_{tables.get(case, case)}"])
        model = fill_by_formula(network.OccupancyNetwork(config), fixture)
        c = model.encode(value)
        z = torch.zeros(1, 0)
        if config.z_dim:
            z = torch.from_numpy(2 * u_stream(streams["onet_uncond_z"], config.z_dim) - 1)[None].float()
        yield f"{case}_c", c
        yield f"{case}_logits", model.decode(given["in_points"], z, c)
    small = given["in_image_u8check"]
    step = given["in_image"].shape[-1] // small.shape[-1]
    yield "in_image_u8check", (given["in_image"][..., ::step, ::step] * 255).round().clamp(0, 255)


def check_generation(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    sizes, given, weights = fixture.sizes(), tensors(fixture.group("in")), fixture.group("w")
    weights = {key.removeprefix("decoder."): value for key, value in weights.items()}
    decoder = filled(
        decoders.decoder_from(decoders.decoder_config_from(shapes_of(tensors(weights)))), weights
    )
    threshold, box, c = sizes["threshold"], 1.0 + sizes["padding"], given["c"]

    def logits(p: Tensor) -> Tensor:
        return decoder(p[None], torch.zeros(1, 0), c)[0]

    level = generation.logit(threshold)
    for case, (resolution, steps) in (("mise", sizes["mise"]), ("refine_base", sizes["refine_base"])):
        grid = generation.mise_grid(logits, resolution, steps, threshold, box)
        vertices, faces = closed_surface(grid, level, box)
        yield f"out/{case}_vertices", vertices
        yield f"out/{case}_faces", faces
        if case == "mise":
            yield "out/normals", generation.surface_normals(logits, torch.from_numpy(vertices).float())
    noise = given["refine_eps"][: sizes["refine_steps"]]
    base, faces = torch.from_numpy(vertices).float(), torch.from_numpy(faces).long()
    name = next(n for n in fixture.expected if n.startswith("out/refined_vertices"))
    yield name, generation.refine_vertices(logits, base, faces, threshold, noise)
    dense = closed_surface(generation.dense_grid(logits, sizes["dense24_samples"], box), level, box)
    yield "out/dense24_vertices", dense[0]
    yield "out/dense24_faces", dense[1]


def check_generation_numbers(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    """Measures of given clouds; counts and volume of the extracted meshes."""
    arrays = fixture.neighbour("onet_generation.safetensors")
    clouds = (
        arrays[f"in/eval_{name}"] for name in ("pred_points", "tgt_points", "pred_normals", "tgt_normals")
    )
    for name, value in evaluation.compare_clouds(*clouds).items():
        yield f"eval_pointcloud/{name}", value
    yield "iou", evaluation.intersection_over_union(arrays["in/iou_a"], arrays["in/iou_b"])
    made = dict(check_generation(Fixture(fixture.path.with_name("onet_generation.safetensors"))))
    for case, name in (("mise_mesh", "mise"), ("dense24", "dense24")):
        found = measures(made[f"out/{name}_vertices"], made[f"out/{name}_faces"])
        for key in fixture.neighbour(fixture.path.name)[case]:
            yield f"{case}/{key}", found[key]


def _table(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.nn.Module]:
    return {"": network.OccupancyNetwork(network.config_from(shapes))}


CHECKS = {
    "onet_small.safetensors": Check(check_small),
    "onet_full_pw.npz": Check(check_full),
    "onet_generation.safetensors": Check(check_generation),
    "onet_generation_expected.json": Check(check_generation_numbers),
    "keys_onet.json": Check(key_tables(_table)),
}
