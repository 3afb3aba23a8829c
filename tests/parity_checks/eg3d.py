# SPDX-License-Identifier: GPL-3.0-or-later
"""EG3D: mapping, planes, points, rays, renderings, super-resolution, cameras, key tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from maquette.core.models.eg3d import cameras
from maquette.core.models.eg3d.configuration import config_from
from maquette.core.models.eg3d.encoder import PoseEncoder, encoder_config_from
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.eg3d.rays import (
    Draws,
    camera_rays,
    coarse_depths,
    importance_depths,
    interval_weights,
)
from maquette.core.models.face_parser.network import FaceParser
from maquette.core.models.parts.key_shapes import shapes_of
from torch import Tensor

from .fixture import Check, Fixture, relative_error
from .networks import tensors

IMAGE = 1e-3


def generator_of(fixture: Fixture, name: str) -> Eg3d:
    """The reduced generator beside the fixture."""
    about = fixture.neighbour(f"{name}_kwargs.json")
    weights = tensors(fixture.neighbour(f"{name}_weights_f16.safetensors"))
    settings = {
        "init_kwargs": about["init_kwargs"],
        "neural_rendering_resolution": about["neural_rendering_resolution_attribute"],
    }
    return Eg3d.from_public(weights, config_from(shapes_of(weights), settings))


def check_generator(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    name = fixture.path.name.removesuffix("_io.safetensors")
    model = generator_of(fixture, name)
    given = tensors(fixture.arrays())
    resolution = fixture.sizes("render_resolution_of_arrays_named_r16")[name]
    with torch.no_grad():
        ws = model.mapping(given["z"].double(), given["c_cond"])
        yield "w", ws[:, 0]
        yield from _truncated(model, given, fixture)
        yield from _planes(model, given, ws, fixture)
        planes = model.planes(ws)
        yield from _points(model, given, planes, fixture)
        yield from _renders(model, given, ws, planes, resolution)
        yield from _wplus(model, given, fixture, resolution)
        yield from _super_resolution(model, ws, fixture)


def _truncated(model: Eg3d, given: dict[str, Tensor], fixture: Fixture) -> Iterator[tuple[str, Any]]:
    for name in fixture.expected:
        found = re.fullmatch(r"ws?_psi([\d.]+?)(?:_cutoff(\d+))?", name)
        if not found:
            continue
        cutoff = int(found[2]) if found[2] else None
        ws = model.mapping(given["z"], given["c_cond"], float(found[1]), cutoff)
        rows = [0, (cutoff or 1) - 1, cutoff or 0, ws.shape[1] - 1]
        yield name, ws[:, rows] if name.startswith("ws") else ws[:, 0]


def _planes(model: Eg3d, given: dict[str, Tensor], ws: Tensor, fixture: Fixture) -> Iterator[tuple[str, Any]]:
    for noise in ("const", "none"):
        planes = model.planes(ws, noise).flatten(1, 2)
        yield f"planes_{noise}_strided32", planes[:, :, ::32, ::32]
        yield f"planes_{noise}_stats", torch.stack([planes.mean((2, 3)), planes.std((2, 3))], -1)
        if noise == "const":
            yield "planes_const_patch", planes[0, [0, 31, 32, 63, 64, 95], 100:116, 100:116]
    stages: list[tuple[Tensor, Tensor]] = []
    model.backbone.synthesis(ws, "const", stages)
    for x, image in stages:
        side = x.shape[-1]
        step = max(side // 8, 1)
        yield f"block{side}_x_strided", x[:1, :4, ::step, ::step]
        yield f"block{side}_img_strided", image[:1, :6, ::step, ::step]


def _points(
    model: Eg3d, given: dict[str, Tensor], planes: Tensor, fixture: Fixture
) -> Iterator[tuple[str, Any]]:
    origins, directions = camera_rays(given["c_cam"], round(given["rays16_o"].shape[1] ** 0.5))
    yield "rays16_o", origins
    yield "rays16_d", directions
    found = [model.query(item, points) for item, points in zip(planes, given["points"], strict=True)]
    yield "points_sigma", torch.stack([sigma for sigma, _ in found])[..., None]
    yield "points_rgb", torch.stack([rgb for _, rgb in found])
    for name in fixture.expected:
        psi = re.fullmatch(r"grid16_sigma_psi([\d.]+)", name)
        if psi:
            ws = model.mapping(given["z"][:1], given["c_cond"][:1], float(psi[1]))
            sigma, _ = model.query(model.planes(ws)[0], given["grid16_points"])
            yield name, sigma.reshape(fixture.expected[name].shape)
    # our grid has whole indices; the published positions are sheared by less than a cell
    n = fixture.sizes_of("grid16")
    yield "grid16_points", _sheared_grid(n, model.config.rendering.box_warp)


def _sheared_grid(n: int, side: float) -> Tensor:
    flat = torch.arange(n**3, dtype=torch.float64)
    k = flat % n
    j = (flat / n) % n
    i = ((flat / n) / n) % n
    return (torch.stack([i, j, k], 1) * (side / (n - 1)) - side / 2).float()


def _renders(
    model: Eg3d, given: dict[str, Tensor], ws: Tensor, planes: Tensor, resolution: int
) -> Iterator[tuple[str, Any]]:
    batch = len(ws)
    draws = {
        "r16_jit": Draws(given["r16_jit_jitter"], given["r16_jit_u"].unflatten(0, (batch, -1))),
        "r16_det": Draws(),
    }
    for case, drawn in draws.items():
        yield from _stages(model, given, planes, resolution, case, drawn)
        rendered = model.render(planes, given["c_cam"], resolution, drawn)
        yield f"{case}_feature", rendered.features
        yield f"{case}_depth", rendered.depth
        yield f"{case}_weight_total", rendered.opacity
        yield f"{case}_image_raw_returned", rendered.image
        yield from _pictures(case, model.picture(rendered, ws))
    if "r64_det_feature" not in given:
        return
    side = model.config.neural_resolution
    rendered = model.render(planes, given["c_cam"], side)
    step = side // given["r64_det_feature"].shape[-1]
    yield "r64_det_feature", rendered.features[..., ::step, ::step]
    yield "r64_det_depth", rendered.depth[..., ::step, ::step]
    yield "r64_det_weight_total", rendered.opacity[..., ::step, ::step]
    yield "r64_det_image_raw_returned", _overwritten(model, rendered.features, ws)[..., ::step, ::step]
    yield from _pictures("r64_det", model.picture(rendered, ws))


def _overwritten(model: Eg3d, features: Tensor, ws: Tensor) -> Tensor:
    """What the original returns as raw picture where its first block adds into it (at the full feature resolution)."""
    block = model.superresolution.get_submodule("block0")
    w = ws[:, -1]
    return block(features, features[:, :3], (w, w, w), "none")[1]


def _stages(
    model: Eg3d, given: dict[str, Tensor], planes: Tensor, resolution: int, case: str, drawn: Draws
) -> Iterator[tuple[str, Any]]:
    """Coarse depths and weights, fine depths of the first item."""
    config = model.config.rendering
    origins, directions = (rays[0] for rays in camera_rays(given["c_cam"][:1], resolution))
    depths = coarse_depths(config, origins, directions, None if drawn.jitter is None else drawn.jitter[0])
    points = origins[:, None] + depths[..., None] * directions[:, None]
    sigma, _ = model.query(planes[0], points.flatten(0, 1))
    weights = interval_weights(sigma.view(depths.shape), depths)
    n = config.depth_resolution_importance
    even = torch.linspace(0, 1, n).expand(len(depths), n)
    quantiles = even if drawn.quantiles is None else drawn.quantiles[0]
    yield f"{case}_depths_coarse", depths[None]
    yield f"{case}_coarse_weights", weights[None]
    yield f"{case}_depths_fine", importance_depths(depths, weights, quantiles)[None]


def _pictures(case: str, image: Tensor) -> Iterator[tuple[str, Any]]:
    side = image.shape[-1]
    start, step = side // 2 - 32, side // 32
    yield f"{case}_image_strided", image[..., ::step, ::step]
    yield f"{case}_image_crop64", image[:1, :, start : start + 64, start : start + 64]
    yield f"{case}_image_stats", torch.stack([image.mean((2, 3)), image.std((2, 3))], -1)


def _wplus(
    model: Eg3d, given: dict[str, Tensor], fixture: Fixture, resolution: int
) -> Iterator[tuple[str, Any]]:
    ws = given["wplus"]
    planes = model.planes(ws)
    yield "wplus_planes_const_strided32", planes.flatten(1, 2)[:, :, ::32, ::32]
    rendered = model.render(planes, given["c_cam"][: len(ws)], resolution)
    yield "wplus_r16_det_depth", rendered.depth
    image = model.picture(rendered, ws)
    step = image.shape[-1] // 32
    yield "wplus_r16_det_image_strided", image[..., ::step, ::step]


def _super_resolution(model: Eg3d, ws: Tensor, fixture: Fixture) -> Iterator[tuple[str, Any]]:
    side = model.config.superresolution.side
    for amplitude, noise in sorted(
        {(m[1], m[2]) for m in (re.match(r"sr_amp([\d.]+)_(?:noise(\w+?)_)?image", n) for n in fixture.expected) if m},
        key=str,
    ):  # fmt: skip
        c, y, x = np.ogrid[: model.config.plane_features, :side, :side]
        features = float(amplitude) * np.sin(0.37 * (c + 1) + 0.11 * y - 0.07 * x)
        image = model.superresolution(torch.from_numpy(features).float()[None], ws[:1, -1], noise or "none")
        case = f"sr_amp{amplitude}" + (f"_noise{noise}" if noise else "")
        for name, value in _pictures(case, image):
            if name in fixture.expected:
                yield name, value


def check_cameras(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    expected = fixture.expected
    yield (
        "lookat",
        [
            e | {"cam2world": cameras.look_at(e["h"], e["v"], e["lookat"], e["radius"]).tolist()}
            for e in expected["lookat"]
        ],
    )
    yield "fov", [e | {"K": cameras.intrinsics(cameras.focal_of(e["deg"])).tolist()} for e in expected["fov"]]
    yield "face_crop", [_crop(e) for e in expected["face_crop"]]
    yield "deep3d_pose", [_deep3d(e) for e in expected["deep3d_pose"]]
    yield "lm3d_std", cameras.STANDARD_LANDMARKS


def _crop(entry: dict[str, Any]) -> dict[str, Any]:
    size, marks = tuple(entry["size"]), entry["landmarks_xy_topdown"]
    large, small = cameras.face_crop(size, marks), cameras.face_crop(size, marks, 224, 102.0)
    return entry | {
        "scale_to_1024crop": large.scale,
        "t": list(large.centre),
        "resized": list(large.resized),
        "crop_left_up": [large.left, large.top],
        "lm_in_1024_y_up": large.landmarks.tolist(),
        "lm_in_224_y_up": small.landmarks.tolist(),
    }


def _deep3d(entry: dict[str, Any]) -> dict[str, Any]:
    pose = cameras.deep3d_pose(entry["angle"], entry["trans"])
    return entry | {
        "cam2world_before_radius_fix": cameras.deep3d_pose(entry["angle"], entry["trans"], False).tolist(),
        "cam2world": pose.tolist(),
        "mirrored": cameras.mirrored(pose).tolist(),
        "K": cameras.intrinsics().tolist(),
    }


def leaves(value: Any) -> list[float]:
    """The numbers of nested lists and dictionaries, in order."""
    if isinstance(value, dict):
        return [x for key in sorted(value) for x in leaves(value[key])]
    if isinstance(value, list):
        return [x for item in value for x in leaves(item)]
    return [float(value)]


def entry_error(expected: Any, got: Any) -> tuple[float, str]:
    """The worst array of any entry, each against its own magnitude."""
    errors = [
        (relative_error(np.array(leaves(e[key])), np.array(leaves(g[key])))[0], key)
        for e, g in zip(expected, got, strict=True)
        for key in e
    ]
    error, key = max(errors)
    return error, f"{len(expected)} entries, worst {key}"


def check_keys(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    tables = json.loads(fixture.path.read_text(encoding="utf-8"))
    for name, table in tables.items():
        if isinstance(table, list):
            continue
        shapes = {key: tuple(shape) for key, shape in table.items()}
        with torch.device("meta"):
            if name.startswith("eg3d"):
                module = f"training.superresolution.{name.split('_')[-1]}"
                model: torch.nn.Module = Eg3d(
                    config_from(shapes, {"rendering_kwargs": {"superresolution_module": module}})
                )
                if f"parameters_not_buffers_{name.rsplit('_', 1)[0]}" in tables and "8XDC" in name:
                    own = sorted(key for key, _ in model.named_parameters())
                    listed = tables[f"parameters_not_buffers_{name.rsplit('_', 1)[0]}"]
                    yield (
                        f"parameters_not_buffers_{name.rsplit('_', 1)[0]}",
                        listed if own == sorted(listed) else own,
                    )
            elif "encoder" in name:
                model = PoseEncoder(encoder_config_from(shapes))
            else:
                model = FaceParser()
        for key, tensor in model.state_dict().items():
            yield f"{name}/{key}", list(tensor.shape)


CHECKS = {
    "tiny512_io.safetensors": Check(
        check_generator,
        ("z", "c_cond", "c_cam", "points", "r16_jit_jitter", "r16_jit_u", "wplus"),
        {"*image*": IMAGE, "*feature": IMAGE, "*_img_*": 1e-4, "*_depth": IMAGE, "*weight*": IMAGE},
    ),
    "camera_io.json": Check(
        check_cameras, compare=dict.fromkeys(("lookat", "fov", "face_crop", "deep3d_pose"), entry_error)
    ),
    "full_size_key_shapes.json": Check(check_keys),
}
CHECKS["tiny128_io.safetensors"] = CHECKS["tiny512_io.safetensors"]
