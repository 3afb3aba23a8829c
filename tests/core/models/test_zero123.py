# SPDX-License-Identifier: GPL-3.0-or-later
"""Zero123: parity with the published numbers, its three file layouts, the sampler's steps."""

import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.models.parts.transformer import VisionTransformerConfig
from maquette.core.models.sd_vae.network import VaeConfig
from maquette.core.models.zero123.layouts import diffusers, original, with_moving_average, zero123_from_public
from maquette.core.models.zero123.model import Zero123, Zero123Config, pose_vector
from maquette.core.models.zero123.sampler import alphas_cumulative, sample, schedule
from maquette.core.models.zero123.unet import UNetConfig

from tests.parity_checks.lrm_diffusion import CHECKS
from tests.parity_checks.lrm_run import needs_fixtures, worst
from tests.reference.published_file import filled, published

TINY = Zero123Config(
    image=16,
    unet=UNetConfig(channels=32, multipliers=(1, 2), blocks=1, attention=(1,), heads=2, context=8),
    vae=VaeConfig(32, (1, 1), 1),
    clip=VisionTransformerConfig(16, 1, 2, 64, 4, 8, eps=1e-5, quick_gelu=True, norm_before=True),
    embedding=10,  # not 16: a projection that is transposed by mistake must not fit
)
POSES = pose_vector(torch.tensor([10.0, -10.0]), torch.tensor([0.0, 90.0]))


def run(model: Zero123) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, 16, 16, generator=generator) * 2 - 1
    start = torch.randn(2, 4, 8, 8, generator=generator)
    return model.views(image, POSES, start, None, steps=4, eta=0.0)


@needs_fixtures
def test_every_array_equals_the_published_one() -> None:
    assert worst("zero123*_expected.safetensors", CHECKS) <= 1.0


@pytest.mark.parametrize("camera", ["cc_projection", "clip_camera_projection"])
def test_the_diffusers_folders_give_the_same_views_as_the_original_file(camera: str) -> None:
    model = filled(Zero123(TINY))
    first: dict[str, torch.Tensor] = {}
    for part, (prefix, layout) in original().items():
        first |= published(model.get_submodule(part), layout, prefix)
    marker = {"clip_camera_projection.proj.weight": torch.zeros(0)} if camera.startswith("clip") else {}
    second: dict[str, torch.Tensor] = {}
    for part, (prefix, layout) in diffusers(TINY, marker).items():
        second |= published(model.get_submodule(part), layout, prefix)
    # Names that exist in the public folders, as counted by the rule of one residual block per level.
    for name in (
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        "unet.down_blocks.0.downsamplers.0.conv.weight",
        "unet.up_blocks.0.upsamplers.0.conv.weight",
        "unet.up_blocks.1.attentions.1.proj_out.weight",
        "unet.mid_block.resnets.1.time_emb_proj.bias",
        "vae.decoder.up_blocks.0.upsamplers.0.conv.weight",
        "image_encoder.vision_model.encoder.layers.0.self_attn.k_proj.bias",
        "image_encoder.visual_projection.weight",
    ):
        assert name in second
    assert list(second["image_encoder.visual_projection.weight"].shape) == [10, 16]
    expected = run(model)
    assert torch.equal(run(zero123_from_public(first, TINY)), expected)
    half = run(zero123_from_public(first, TINY, torch.float16))
    assert half.dtype == torch.float32 and torch.allclose(half, expected, atol=0.01)
    assert torch.allclose(run(zero123_from_public(second, TINY)), expected, atol=1e-5)


def test_the_moving_average_is_what_samples_and_the_rest_of_a_checkpoint_is_ignored() -> None:
    file = {
        "model.diffusion_model.out.2.bias": torch.zeros(4),
        "model_ema.diffusion_modelout2bias": torch.ones(4),
        "betas": torch.zeros(3),
    }
    assert torch.equal(with_moving_average(file)["model.diffusion_model.out.2.bias"], torch.ones(4))


def test_a_file_without_its_vae_is_refused_by_name() -> None:
    model = filled(Zero123(TINY))
    file: dict[str, torch.Tensor] = {}
    for part, (prefix, layout) in original().items():
        if part != "vae":
            file |= published(model.get_submodule(part), layout, prefix)
    with pytest.raises(InputError) as caught:
        zero123_from_public(file, TINY)
    assert caught.value.code == "WEIGHTS_MISMATCH" and "missing" in caught.value.message


@pytest.mark.parametrize(("steps", "listed", "first"), [(75, 77, 976), (50, 50, 961)])
def test_the_noisiest_step_is_left_out(steps: int, listed: int, first: int) -> None:
    plan = schedule(steps)
    seen: list[int] = []

    def denoise(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(int(t[0]))
        return torch.zeros_like(z)

    sample(denoise, torch.zeros(1, 1, 1, 1), plan)
    assert len(plan.timesteps) == listed and len(seen) == listed - 1
    assert seen[0] == first and seen[-1] == 1


def test_ddim_without_noise_recovers_a_known_picture() -> None:
    # z_t = sqrt(a) x + sqrt(1 - a) e with one x and e for all t: a denoiser that answers e leads back to x.
    plan = schedule(10, eta=0.0)
    x, e = torch.full((1, 1, 2, 2), 0.3), torch.full((1, 1, 2, 2), -1.7)
    a = float(plan.alphas[-2])
    out = sample(lambda z, t: e, a**0.5 * x + (1 - a) ** 0.5 * e, plan)
    last = float(alphas_cumulative()[0])
    assert torch.allclose(out, last**0.5 * x + (1 - last) ** 0.5 * e, atol=1e-5)


def test_pose_vector_of_a_quarter_turn() -> None:
    expected = torch.tensor([torch.pi / 6, 1.0, 0.0, 0.0])
    assert torch.allclose(pose_vector(torch.tensor([30.0]), torch.tensor([90.0]))[0], expected, atol=1e-6)
