# SPDX-License-Identifier: GPL-3.0-or-later
"""Parity of One-2-3-45's reconstruction, cameras and elevation search with the arrays of fixtures/lrm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from maquette.core.models.sparseneus.blending import BlendingNetwork
from maquette.core.models.sparseneus.cameras import all_views, in_cube, intrinsics, pixel_rays
from maquette.core.models.sparseneus.elevation import COARSE, candidate_cameras, estimate
from maquette.core.models.sparseneus.features import fuse
from maquette.core.models.sparseneus.field import NeuralSurface
from maquette.core.models.sparseneus.model import SparseNeuS, SparseNeuSConfig
from maquette.core.models.sparseneus.normalisation import Statistics
from maquette.core.models.sparseneus.rendering import render
from torch import Tensor, nn

from .fixture import Check, Fixture, point_set_error
from .lrm_mesh import SURFACE_TOLERANCE, OnMesh, iso_surface, surface_error, values_error

Named = Iterator[tuple[str, Any]]
Tensors = dict[str, Tensor]


def sparseneus(fixture: Fixture) -> Named:
    """Every array of sparseneus_mini_expected."""
    x = {name: torch.from_numpy(value) for name, value in fixture.expected.items()}
    settings = fixture.neighbour("sparseneus_mini_config.json")
    weights = {
        k: torch.from_numpy(v) for k, v in fixture.neighbour("sparseneus_mini_weights.safetensors").items()
    }
    model = SparseNeuS.from_public(weights, config_of(settings, weights))
    for mode in ("train", "eval"):
        with torch.no_grad():
            for name, value in _of_mode(x, settings, model, "batch" if mode == "train" else "running", mode):
                if mode == "train" or f"{mode}.{name}" in x:  # fewer arrays exist for running statistics
                    yield f"{mode}.{name}", value
    with torch.no_grad():
        yield "train.blend_color", _blend(x, model.blending)


def _of_mode(
    x: Tensors, settings: dict[str, Any], model: SparseNeuS, statistics: Statistics, mode: str
) -> Named:
    images = x["in_images"]
    centres = torch.linalg.inv(x["in_w2cs"])[:, :3, 3]
    maps = model.pyramid(images, statistics)
    fused = fuse(images, *maps)[:, 3:]
    taps: dict[str, Tensor] = {}
    hooks = [
        block.register_forward_hook(_keep(taps, name, "input" if name == "sparse" else "output"))
        for name, block in [("sparse", model.sparse), *model.sparse.named_children()]
    ]
    field = model.reconstruct(images, x["in_affine"], centres, statistics)
    for hook in hooks:
        hook.remove()
    for name, level in zip(("feat_quarter", "feat_half", "feat_full"), maps, strict=True):
        yield name, level[:2]
    yield "fused_view0", fused[0]
    yield "compress_view01", model.compress(fused, statistics)[:2]
    cost, mask = taps["sparse"], field.mask[None]
    order = x["train.cost_coords"].long()
    yield "cost_coords", _coordinates(mask, 1, order)
    yield "cost_feats", cost[0][:, *order[:, :3].T].T
    for name in [
        name.removesuffix("_coords") for name in x if name.startswith("train.sp_conv") and "coords" in name
    ]:
        dense = taps[name.removeprefix("train.sp_")]
        order = x[f"{name}_coords"].long()
        stride = _stride(mask, dense)
        yield (
            name.removeprefix("train.") + "_coords",
            _coordinates(taps[name.removeprefix("train.sp_") + ".mask"], stride, order),
        )
        yield name.removeprefix("train.") + "_feats", dense[0][:, *(order[:, :3] // stride).T].T
    yield "volume", field.volume
    yield "mask", field.mask[0]
    yield from _surface(x, settings, model, field, mode)


def _surface(
    x: Tensors, settings: dict[str, Any], model: SparseNeuS, field: NeuralSurface, mode: str
) -> Named:
    points = x["train.points"]
    values = field.surface_values(points)
    yield "latent", field.latent(points)
    yield "sdf", values[:, 0]
    yield "sdf_feat", values[:, 1:]
    yield "grad", field.gradient(points)
    width = x["in_images"].shape[3]
    index = x["train.ray_index"].numpy()
    pixels = np.stack([index % width, index // width], 1).astype(np.float64)
    origins, directions = pixel_rays(
        x["in_query_intrinsic"].double().numpy(), x["in_query_c2w"].double().numpy(), pixels
    )
    yield "rays_o", origins
    yield "rays_v", directions
    near, far = x["in_query_near_far"].tolist()
    rendered = render(
        field, x["train.rays_o"], x["train.rays_v"], near, far, float(model.sharpness), settings["n_samples"],
        settings["n_importance"], background=settings["background"], ratio=settings["alpha_inter_ratio"],
    )  # fmt: skip
    yield "render_color", rendered.colour
    yield "render_depth", rendered.depth
    yield "render_weights_sum", rendered.opacity
    yield "render_color_mask", rendered.reliable
    yield "render_inv_s", model.sharpness[None]
    if mode == "train":
        yield from _mesh(x, settings["mesh_resolution"], field)


def _mesh(x: Tensors, resolution: int, field: NeuralSurface) -> Named:
    axis = torch.linspace(-1, 1, resolution)
    grid = -field.geometry(torch.cartesian_prod(axis, axis, axis)).view([resolution] * 3)
    yield next(name.removeprefix("train.") for name in x if name.startswith("train.sdf_grid")), grid
    theirs = x["train.mesh_vertices"].numpy(), x["train.mesh_faces"].numpy()
    ours = iso_surface(grid.numpy(), 0.0, -1, 1)
    yield "mesh_vertices", ours[0]
    yield "mesh_faces", OnMesh.of(ours[1], ours, theirs)
    colours = field.appearance(torch.from_numpy(ours[0]).float())
    yield "mesh_vertex_color", OnMesh.of(colours.numpy(), ours, theirs)


def _blend(x: Tensors, network: BlendingNetwork) -> Tensor:
    given = [x[f"train.blend_{name}"] for name in ("geo", "rgb", "ray_diff")]
    return network(*given, x["train.blend_mask"].bool())


def _keep(taps: dict[str, Tensor], name: str, what: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, given: Any, result: Any) -> None:
        taps[name] = given[0] if what == "input" else result
        taps[f"{name}.mask"] = given[1]

    return hook


def _stride(mask: Tensor, dense: Tensor) -> int:
    """Stride of a level from its number of cells: n -> floor(n/2) + 1 for each halving."""
    size, stride = mask.shape[2], 1
    while size != dense.shape[2]:
        size, stride = size // 2 + 1, stride * 2
    return stride


def _coordinates(mask: Tensor, stride: int, order: Tensor) -> np.ndarray[Any, Any]:
    """Active cells as (x, y, z, 0) in units of the finest level, listed in the order of the expected ones (order is free)."""
    cells = mask[0, 0].nonzero() * stride
    rank = {tuple(row): i for i, row in enumerate(order[:, :3].tolist())}
    rows = sorted(cells.tolist(), key=lambda row: rank.get(tuple(row), len(rank)))
    return np.pad(np.array(rows, np.int32), ((0, 0), (0, 1)))


def cameras(fixture: Fixture) -> Named:
    """Every array of one2345_cameras_expected."""
    k = intrinsics()
    prefixes = {name.split(".")[0] for name in fixture.expected}
    by_label = sorted(prefixes, key=lambda prefix: int(prefix.removeprefix("polar")))
    polars = sorted(fixture.sizes("one2345_cameras")["polars"])
    for prefix, polar in zip(by_label, polars, strict=True):
        views = all_views(float(polar))
        near_ids = [i for i, name in enumerate(views.names) if "_" in name]
        first_ids = [i for i, name in enumerate(views.names) if "_" not in name]
        cube = in_cube(views.poses, first_ids[0], [first_ids[0], *near_ids])
        yield f"{prefix}.raw_c2w_opengl", views.poses
        yield f"{prefix}.image_ids", np.frombuffer("\n".join(views.names).encode("ascii"), np.uint8)
        yield f"{prefix}.w2cs", cube.world_to_cam[near_ids]
        yield f"{prefix}.c2ws", cube.cam_to_world[near_ids]
        yield f"{prefix}.intrinsics", np.repeat(k[None], len(near_ids), 0)
        yield f"{prefix}.affine_mats", cube.affine[near_ids]
        yield f"{prefix}.near_fars", cube.near_far[[first_ids[0], *near_ids]]
        yield f"{prefix}.scale_mat", cube.scale
        yield f"{prefix}.trans_mat", cube.reference
        yield f"{prefix}.query_c2w", cube.cam_to_world[first_ids[0]]
        yield f"{prefix}.query_w2c", cube.world_to_cam[first_ids[0]]
        yield f"{prefix}.query_near_far", cube.near_far[first_ids[0]]
        yield f"{prefix}.partial_vol_origin", np.full(3, -1.0)
        yield f"{prefix}.target_candidate_w2cs", cube.world_to_cam[first_ids]


def elevation(fixture: Fixture) -> Named:
    """Every array of one2345_elevation_expected."""
    x = fixture.expected
    matches = {
        (int(name[-3]), int(name[-1])): value.astype(np.float64)
        for name, value in x.items()
        if name.startswith("matches_")
    }
    found = estimate(matches, x["K"].astype(np.float64))
    assert found is not None
    yield "K", intrinsics()
    yield "coarse_candidates", np.array(COARSE)
    yield "coarse_errors", found.coarse_errors
    yield "fine_candidates", np.array(found.fine_candidates)
    yield "fine_errors", found.fine_errors
    yield "estimated_polar_deg", np.array([found.polar_deg])
    yield "poses_opencv_c2w_at_true", candidate_cameras(float(x["true_polar_deg"][0]))


def config_of(settings: dict[str, Any], weights: Tensors) -> SparseNeuSConfig:
    """The public configuration's words -> ours; feature widths from the weights."""

    def out(name: str) -> int:
        return len(weights[f"pyramid_feature_network.{name}.conv.weight"])

    def sparse(name: str) -> int:
        return weights[f"sdf_network_lod0.sparse_costreg_net.{name}.net.0.kernel"].shape[2]

    return SparseNeuSConfig(
        size=tuple(settings["vol_dims"]),
        voxel=settings["voxel_size"],
        pyramid=(out("conv0.1"), out("conv1.2"), out("conv2.2")),
        compressed=settings["d_pyramid_feature_compress"],
        latent=settings["regnet_d_out"],
        sparse=(sparse("conv2"), sparse("conv4"), sparse("conv6")),
        hidden=settings["hidden_dim"],
        frequencies=settings["multires"],
        layers=settings["num_sdf_layers"] - 1,
    )


_MESH = {
    "train.mesh_vertices": point_set_error,
    "train.mesh_faces": surface_error,
    "train.mesh_vertex_color": values_error,
}
# Vertices carry the rounding of the distances, and colours in noise change fast with them.
_TOLERANCES = {"train.mesh_faces": SURFACE_TOLERANCE, "train.mesh_vertex_color": 1e-3}
_GIVEN = (
    "in_*",
    "train.points",
    "train.ray_index",
    "train.blend_geo",
    "train.blend_rgb",
    "train.blend_ray_diff",
    "train.blend_mask",
)

CHECKS = {
    "sparseneus_mini_expected.safetensors": Check(sparseneus, _GIVEN, _TOLERANCES, _MESH),
    "one2345_cameras_expected.safetensors": Check(cameras, ()),
    "one2345_elevation_expected.safetensors": Check(elevation, ("matches_*", "points3d", "true_polar_deg")),
}
