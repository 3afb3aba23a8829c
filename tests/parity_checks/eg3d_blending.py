# SPDX-License-Identifier: GPL-3.0-or-later
"""3D-aware blending: warped rendering, registration, encoder, losses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from maquette.core.blending import losses, masks, registration
from maquette.core.models.eg3d.encoder import PoseEncoder

from .eg3d import IMAGE, generator_of
from .fixture import Check, Fixture
from .networks import tensors


def check_blending(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    given = tensors(fixture.arrays())
    with torch.no_grad():
        yield from _warp(fixture, given["warp_matrix"])
        yield from _encoder(fixture, given)
    yield from _registration(given)
    yield from _losses(given)


def _warp(fixture: Fixture, warp: torch.Tensor) -> Iterator[tuple[str, Any]]:
    model = generator_of(fixture, "tiny512")
    scene = tensors(fixture.neighbour("tiny512_io.safetensors"))
    ws = scene["w"][:1, None].expand(-1, model.config.rows, -1)
    resolution = fixture.sizes_of("blend_render_resolution")
    planes = model.planes(ws)
    for case, matrix in (("nowarp", None), ("warp", warp)):
        rendered = model.render(planes, scene["c_cam"][:1], resolution, warp=matrix)
        yield f"{case}_densities_coarse", rendered.sigma
        yield f"{case}_image_raw", rendered.image
        yield f"{case}_depth", rendered.depth
        image = model.picture(rendered, ws)
        step = image.shape[-1] // fixture.expected[f"{case}_image_strided"].shape[-1]
        yield f"{case}_image_strided", image[..., ::step, ::step]


def _encoder(fixture: Fixture, given: dict[str, torch.Tensor]) -> Iterator[tuple[str, Any]]:
    rows = fixture.sizes("pose_encoder")["latent_rows"]
    weights = tensors(fixture.neighbour("tiny_encoder_weights_f16.safetensors"))
    encoded = PoseEncoder.from_public(weights, rows)(given["enc_image"])
    yield "enc_latent", encoded.ws
    yield "enc_euler", encoded.angles
    yield "enc_label", encoded.label


def _registration(given: dict[str, torch.Tensor]) -> Iterator[tuple[str, Any]]:
    source, target = given["icp_src"].numpy(), given["icp_tgt"].numpy()
    for name, per_axis in (("uniform", False), ("aniso", True)):
        matrix, cost = registration.register(source, target, per_axis)
        yield f"icp_{name}_matrix", matrix
        yield f"icp_{name}_cost", [cost]
        if name == "uniform":
            yield "icp_uniform_matrix_eg3d_frame", registration.in_world(matrix)


def _losses(given: dict[str, torch.Tensor]) -> Iterator[tuple[str, Any]]:
    names = ("mask", "orig_img", "edit_img", "orig_sigma", "ref_sigma", "edit_sigma")
    mask, original, edited, sigma_o, sigma_r, sigma_e = (given[f"loss_{name}"] for name in names)
    rays = masks.for_rays(mask, sigma_e.shape[-1])
    yield "loss_variation_weight", masks.share_weight(rays)[None]
    yield "loss_src_rgb", losses.outside_rgb(mask, original, edited)[None]
    yield "loss_src_density", losses.outside_density(rays, sigma_o, sigma_e)[None]
    yield "loss_ref_density", losses.inside_density(rays, sigma_r, sigma_e)[None]


CHECKS = {
    "blend_io.safetensors": Check(
        check_blending,
        ("warp_matrix", "icp_src", "icp_tgt", "enc_image", "loss_mask", "loss_*_img", "loss_*_sigma"),
        {"*image*": IMAGE, "*_depth": IMAGE},
    )
}
