# SPDX-License-Identifier: GPL-3.0-or-later
"""Parity of Zero123 (U-Net, autoencoder, CLIP tower, conditioning, sampler) with the arrays of fixtures/lrm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from maquette.core.models.parts.transformer import VisionTransformerConfig
from maquette.core.models.sd_vae.network import VaeConfig
from maquette.core.models.zero123.layouts import zero123_from_public
from maquette.core.models.zero123.model import Condition, Zero123, Zero123Config, pose_vector
from maquette.core.models.zero123.sampler import alphas_cumulative, sample, schedule
from maquette.core.models.zero123.unet import UNetConfig

from .fixture import Check, Fixture

Named = Iterator[tuple[str, Any]]


def zero123(fixture: Fixture) -> Named:
    """Every array of zero123_mini_expected."""
    x = {name: torch.from_numpy(value) for name, value in fixture.expected.items()}
    settings = fixture.neighbour("zero123_mini_config.json")
    weights = fixture.neighbour("zero123_mini_weights.safetensors")
    model = zero123_from_public({k: torch.from_numpy(v) for k, v in weights.items()}, config_of(settings))
    with torch.no_grad():
        image = x["input_image01"] * 2 - 1
        pixels = model.clip.pixels(image[None])
        poses = pose_vector(x["delta_polar_deg"], x["delta_azimuth_deg"])
        known = model.condition(image, poses)
        yield "clip_pixels", pixels[0]
        yield "clip_embedding", model.clip(pixels)[0]
        yield "pose_T", poses
        yield "context", known.context
        yield "vae_moments", model.vae.moments(image[None])[0]
        yield "cond_latent", known.latent[0]
        yield "unet_eps", model.noise(x["unet_z"], x["unet_t"], known)
        yield "vae_decode_out", model.decode(x["vae_decode_in"])
        cumulative = alphas_cumulative(
            settings["timesteps"], settings["linear_start"], settings["linear_end"]
        )
        yield "alphas_cumprod", cumulative
        for name in x:
            if name.endswith("timesteps_full"):
                plan = schedule(requested_steps(name, len(x[name]), len(cumulative)), 1.0, cumulative)
                yield name, plan.timesteps
        yield from _sampling(x, model, known, settings["guidance_scale"], cumulative)


def _sampling(
    x: dict[str, torch.Tensor], model: Zero123, known: Condition, guidance: float, cumulative: torch.Tensor
) -> Named:
    stem = next(name for name in x if re.fullmatch(r"ddim\d+_noise", name)).removesuffix("noise")
    steps = requested_steps(stem, len(x[f"{stem}timesteps_full"]), len(cumulative))
    for eta in (0.0, 1.0):
        plan = schedule(steps, eta, cumulative)
        z = sample(
            lambda z, t: model.guided_noise(z, t, known, guidance),
            x["xT"],
            plan,
            lambda i, _: x[f"{stem}noise"][i],
        )
        yield f"{stem}eta{eta:.0f}_out", z
    yield f"{stem}eta1_image", ((model.decode(z) + 1) / 2).clamp(0, 1)
    yield f"{stem}alphas", plan.alphas
    yield f"{stem}alphas_prev", plan.alphas_prev
    yield f"{stem}sigmas", plan.sigmas


def requested_steps(name: str, listed: int, training_steps: int) -> int:
    """How many steps were asked for: the label if it leads to as many entries as are listed, else the most that does."""

    def entries(steps: int) -> int:
        return -(-training_steps // (training_steps // steps))

    label = int("".join(re.findall(r"\d+", name.split("_")[0])))
    return (
        label if entries(label) == listed else next(s for s in range(listed, 0, -1) if entries(s) == listed)
    )


def config_of(settings: dict[str, Any]) -> Zero123Config:
    """The public configuration's words -> ours."""
    unet, vae, clip = settings["unet"], settings["vae"], settings["clip_visual"]
    return Zero123Config(
        image=settings["image"],
        unet=UNetConfig(
            inputs=unet["in_channels"],
            outputs=unet["out_channels"],
            channels=unet["model_channels"],
            multipliers=tuple(unet["channel_mult"]),
            blocks=unet["num_res_blocks"],
            attention=tuple(unet["attention_resolutions"]),
            heads=unet["num_heads"],
            context=unet["context_dim"],
            depth=unet["transformer_depth"],
        ),
        vae=VaeConfig(vae["ch"], tuple(vae["ch_mult"]), vae["num_res_blocks"], vae["z_channels"]),
        clip=VisionTransformerConfig(
            width=clip["width"],
            depth=clip["layers"],
            heads=clip["heads"],
            hidden=4 * clip["width"],
            patch=clip["patch_size"],
            image=clip["input_resolution"],
            eps=1e-5,
            quick_gelu=True,
            norm_before=True,
        ),
        embedding=clip["output_dim"],
        scale=vae["scale_factor"],
    )


CHECKS = {
    "zero123_mini_expected.safetensors": Check(
        zero123,
        ("input_image01", "delta_*", "unet_z", "unet_t", "vae_decode_in", "xT", "ddim*_noise"),
        {"ddim*_out": 1e-3, "ddim*_image": 1e-3},
    )
}
