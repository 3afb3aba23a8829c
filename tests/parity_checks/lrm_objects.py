# SPDX-License-Identifier: GPL-3.0-or-later
"""Parity of TripoSR and OpenLRM 1.0 / 1.1 with the arrays of fixtures/lrm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from maquette.core.fields.triplane import TriplaneField
from maquette.core.models.lrm.cameras import openlrm_rays, openlrm_source, openlrm_turntable, triposr_rays
from maquette.core.models.lrm.openlrm import OpenLRM, OpenLRMConfig
from maquette.core.models.lrm.preprocessing import centre_foreground, on_grey, openlrm_input, triposr_input
from maquette.core.models.lrm.rendering import render_openlrm, render_triposr
from maquette.core.models.lrm.triposr import TripoSR, TripoSRConfig
from maquette.core.models.parts.transformer import VisionTransformerConfig

from .fixture import Check, Fixture, point_set_error
from .lrm_mesh import STEP8, SURFACE_TOLERANCE, OnMesh, iso_surface, surface_error, values_error

Named = Iterator[tuple[str, Any]]


def triposr(fixture: Fixture) -> Named:
    """Every array of triposr_mini_expected."""
    x = {name: torch.from_numpy(value) for name, value in fixture.expected.items()}
    settings = fixture.neighbour("triposr_mini_config.json")
    sizes = fixture.sizes("triposr_mini")
    weights = fixture.neighbour("triposr_mini_weights.safetensors")
    config = TripoSRConfig.from_public(settings["config"], dino(settings["vit"], pooler=True))
    model = TripoSR.from_public({k: torch.from_numpy(v) for k, v in weights.items()}, config)
    yield from _triposr_pictures(fixture, sizes)
    with torch.no_grad():
        image = triposr_input(fixture.expected["input_image"], config.image)[None]
        yield "cond_image", image[0].permute(1, 2, 0)
        for prefix in ("modern_", ""):
            model.with_resize(modern=bool(prefix))
            tokens = model.encode(image)
            planes = model.planes(model.decode(tokens))[0]
            field = model.field_of(planes)
            yield prefix + "tokens", tokens[0]
            yield prefix + "scene_code", planes
            yield prefix + "query_density_act", field.geometry(x["query_points"])
            yield prefix + "query_color", field.appearance(x["query_points"])
        yield "backbone_in", model.start()[0]
        yield "backbone_out", model.decode(tokens)[0]
        raw = field.raw(x["query_points"])
        yield "query_density", raw[:, 0]
        yield "query_features", raw[:, 1:]
        for view in ("a", "b"):
            v = sizes[f"views_{view}"]
            rays = triposr_rays(
                v["count"], v["elevation_deg"], v["distance"], v["fov_y_deg"], v["height"], v["width"]
            )
            colours, near, far = render_triposr(field, *rays, config.samples)
            computed = {"rays_o": rays[0], "rays_d": rays[1], "t_near": near, "t_far": far, "images": colours}
            yield from (
                (f"{view}_{name}", value) for name, value in computed.items() if f"{view}_{name}" in x
            )
        resolution, level = sizes["mesh_resolution"], sizes["mesh_threshold"]
        grid = field.grid(resolution)
        yield next(name for name in x if name.startswith("grid")), grid
        theirs = fixture.expected["mesh_vertices"], fixture.expected["mesh_faces"]
        ours = iso_surface(grid.numpy(), level, -config.rule.radius, config.rule.radius)
        colours = field.appearance(torch.from_numpy(ours[0]).float()).numpy()
        rgba = np.concatenate([np.round(colours * 255), np.full((len(colours), 1), 255)], 1).astype(np.uint8)
        yield "mesh_vertices", ours[0]
        yield "mesh_faces", OnMesh.of(ours[1], ours, theirs)
        yield "mesh_vertex_rgba", OnMesh.of(rgba, ours, theirs)


def _triposr_pictures(fixture: Fixture, sizes: dict[str, Any]) -> Named:
    foreground = centre_foreground(fixture.expected["pre_rgba"], sizes["foreground_ratio"])
    yield "pre_fg", foreground
    yield "pre_rgb", on_grey(foreground)
    yield (
        next(name for name in fixture.expected if name.startswith("pre_cond")),
        triposr_input(on_grey(foreground), sizes["condition_size"]).permute(1, 2, 0),
    )


def openlrm(fixture: Fixture) -> Named:
    """Every array of openlrm*_expected."""
    x = {name: torch.from_numpy(value) for name, value in fixture.expected.items()}
    stem = fixture.path.name.removesuffix("_expected.safetensors")
    settings = fixture.neighbour(f"{stem}_config.json")
    sizes = fixture.sizes("openlrm")
    weights = fixture.neighbour(f"{stem}_weights.safetensors")
    encoder = dino(settings["vit"]) if "vit" in settings else dinov2(settings["dinov2"])
    config = OpenLRMConfig.from_public(settings["model"], encoder)
    model = OpenLRM.from_public({k: torch.from_numpy(v) for k, v in weights.items()}, config)
    with torch.no_grad():
        image = openlrm_input(fixture.expected["input_rgba"], settings["source_size"])
        source = openlrm_source(sizes["source_distance"], sizes["focal_over_size"])
        embedding = model.camera_embedder(source[None])
        planes = model(image[None], source[None])[0]
        field = model.field_of(planes)
        yield "cond_image", image
        yield "source_camera", source
        yield "camera_embedding", embedding[0]
        yield "image_feats", model.encode(image[None], embedding)[0]
        yield "planes", planes
        raw = field.raw(x["query_points"])
        yield "query_plane_feats", field.plane_features(x["query_points"])
        yield "query_sigma_raw", raw[:, 0]
        yield "query_sigma_act", field.density_of(raw[:, 0])
        yield "query_rgb", field.colour_of(raw[:, 1:])
        yield from _openlrm_pictures(x, sizes, settings["render_size"], config, field)
        yield from _openlrm_mesh(fixture, settings["mesh_size"], settings["mesh_thres"], field)


def _openlrm_pictures(
    x: dict[str, torch.Tensor], sizes: dict[str, Any], side: int, config: OpenLRMConfig, field: TriplaneField
) -> Named:
    cameras = openlrm_turntable(
        sizes["turntable_views"],
        focal=sizes["focal_over_size"],
        closed=config.version == "1.1",
    )
    yield next(name for name in x if name.startswith("all")), cameras
    chosen = cameras[sizes["rendered_views"]]
    yield "render_cameras", chosen
    rays = openlrm_rays(chosen, side)
    yield "rays_o", rays[0]
    yield "rays_d", rays[1]
    pictures = render_openlrm(field, *rays, x["noise_stratified"], x["noise_importance"], config.outside)
    for name, picture in zip(("images_rgb", "images_depth", "images_weight"), pictures, strict=True):
        yield name, picture.mT.unflatten(2, (side, side))


def _openlrm_mesh(fixture: Fixture, resolution: int, level: float, field: TriplaneField) -> Named:
    grid = field.grid(resolution)
    yield next(name for name in fixture.expected if name.startswith("grid")), grid
    theirs = fixture.expected["mesh_vertices"], fixture.expected["mesh_faces"]
    ours = iso_surface(grid.numpy(), level, -1, 1)
    colours = field.appearance(torch.from_numpy(ours[0]).float()).numpy()
    yield "mesh_vertices", ours[0]
    yield "mesh_faces", OnMesh.of(ours[1], ours, theirs)
    yield "mesh_vertex_rgb8", OnMesh.of((colours * 255).astype(np.uint8), ours, theirs)


def dino(vit: dict[str, Any], pooler: bool = False) -> VisionTransformerConfig:
    """Sizes of a DINO v1 encoder in the words of the transformers library."""
    return VisionTransformerConfig(
        width=vit["hidden_size"],
        depth=vit["num_hidden_layers"],
        heads=vit["num_attention_heads"],
        hidden=vit["intermediate_size"],
        patch=vit["patch_size"],
        image=vit["image_size"],
        eps=vit["layer_norm_eps"],
        pooler=pooler,
    )


def dinov2(vit: dict[str, Any]) -> VisionTransformerConfig:
    """Sizes of a DINOv2 encoder in the words of its own repository."""
    return VisionTransformerConfig(
        width=vit["embed_dim"],
        depth=vit["depth"],
        heads=vit["num_heads"],
        hidden=int(vit["mlp_ratio"] * vit["embed_dim"]),
        patch=vit["patch_size"],
        image=vit["img_size"],
        registers=vit["num_register_tokens"],
        layer_scale=bool(vit["init_values"]),
        resize="antialias" if vit["interpolate_antialias"] else "legacy",
    )


_MESH = {
    "mesh_vertices": point_set_error,
    "mesh_faces": surface_error,
    "mesh_vertex_rgba": values_error,
    "mesh_vertex_rgb8": values_error,
}
_MESH_TOLERANCES = {"mesh_faces": SURFACE_TOLERANCE, "mesh_vertex_rgba": STEP8, "mesh_vertex_rgb8": STEP8}
_OPENLRM = Check(openlrm, ("input_rgba", "query_points", "noise_*"), _MESH_TOLERANCES, _MESH)

CHECKS = {
    "triposr_mini_expected.safetensors": Check(
        triposr, ("input_image", "query_points", "pre_rgba"), _MESH_TOLERANCES, _MESH
    ),
    "openlrm10_mini_expected.safetensors": _OPENLRM,
    "openlrm11_mini_sep_expected.safetensors": _OPENLRM,
    "openlrm11_mini_fused_expected.safetensors": _OPENLRM,
}
