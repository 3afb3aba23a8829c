# SPDX-License-Identifier: GPL-3.0-or-later
"""Differentiable Volumetric Rendering: rays, depths, colours, the implicit gradient, losses, key tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from maquette.core.models.dvr import losses, network, rendering
from torch import Tensor

from .fixture import Check, Fixture, pick_set
from .networks import filled, key_tables, tensors


def check_small(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    given, weights = tensors(fixture.group("in")), fixture.group("w")
    out_dim, hidden = weights["decoder.fc_out.weight"].shape
    n_blocks = sum(key.endswith("fc_0.weight") for key in weights)
    sizes = pick_set(fixture.sizes(), hidden=hidden, n_blocks=n_blocks)
    config = network.DvrConfig(hidden, given["c"].shape[1], out_dim, n_blocks)
    model = network.DvrNetwork(config)
    filled(model.decoder, {k.removeprefix("decoder."): v for k, v in weights.items()}).requires_grad_(True)
    c = given["c"].requires_grad_(True)
    origin, ray = rendering.pixel_rays(
        given["pixels"], given["camera_mat"], given["world_mat"], given["scale_mat"]
    )
    yield "out/ray_origin", origin
    yield "out/ray_vector", ray
    interval, crosses = rendering.cube_interval(origin, ray)
    yield "out/cube_interval", interval
    yield "out/cube_mask", crosses
    depth = rendering.march_rays(
        model.logits, c, origin, ray, sizes["samples_per_ray"], tuple(sizes["depth_range"])
    )
    hit = torch.isfinite(depth) & (depth > 0)
    points = origin + torch.where(hit, depth, 1.0)[..., None] * ray  # stored at depth 1 where nothing is hit
    yield "out/d_raw", torch.where(torch.isinf(depth), -1.0, depth)
    yield "out/mask", hit
    yield "out/p_world", points
    yield "out/rgb", model.colours(points, c)
    depth = rendering.attach_depth_gradient(model.logits, c, origin, ray, depth, hit)
    total = (depth * given["loss_weight"])[hit].sum()
    total.backward()
    yield "out/L", total[None]
    yield "out/grad_c", c.grad
    for name, parameter in model.decoder.named_parameters():
        yield f"out/grad_{name}", parameter.grad
    yield from _losses(given)


def _losses(given: dict[str, Tensor]) -> Iterator[tuple[str, Any]]:
    masked = given["loss_pred"], given["loss_gt"], given["loss_mask"]
    yield "out/l1_sum", losses.l1_loss(*masked)[None]
    yield "out/l2_sum", losses.l2_loss(*masked)[None]
    yield "out/image_gradient_patch2", losses.image_gradient_loss(*masked)[None]
    yield "out/freespace_loss", losses.freespace_loss(given["logits"])[None]
    yield "out/occupancy_loss", losses.occupancy_loss(given["logits"])[None]


def _table(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.nn.Module]:
    return {"": network.DvrNetwork(network.config_from(shapes))}


CHECKS = {"dvr_small.safetensors": Check(check_small), "keys_dvr.json": Check(key_tables(_table))}
