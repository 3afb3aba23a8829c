# SPDX-License-Identifier: GPL-3.0-or-later
"""TripoSR and OpenLRM: parity with the published numbers, and what can go wrong with a file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.fields.triplane import PlaneDecoder, TriplaneField, TriplaneRule
from maquette.core.models.lrm.cameras import openlrm_rays, openlrm_source, openlrm_turntable, triposr_rays
from maquette.core.models.lrm.configuration import read_configuration
from maquette.core.models.lrm.preprocessing import centre_foreground
from maquette.core.models.lrm.rendering import render_triposr, slab
from maquette.core.models.lrm.triposr import LAYOUT, TripoSR, TripoSRConfig, renamed
from maquette.core.models.parts.transformer import VisionTransformerConfig
from maquette.core.models.stored_field import load_field

from tests.parity_checks.lrm_objects import CHECKS
from tests.parity_checks.lrm_run import needs_fixtures, worst

TINY = TripoSRConfig(
    image=16, encoder=VisionTransformerConfig(16, 1, 2, 32, 8, 16, pooler=True), plane=4, width=32, heads=2,
    head_width=16, layers=1, features=4, hidden=8, hidden_layers=2,
)  # fmt: skip


def public_file() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = LAYOUT.public_shapes(TripoSR(TINY))
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}


@needs_fixtures
@pytest.mark.parametrize("part", ["triposr", "openlrm10", "openlrm11_mini_sep", "openlrm11_mini_fused"])
def test_every_array_equals_the_published_one(part: str) -> None:
    assert worst(f"{part}*_expected.safetensors", CHECKS) <= 1.0


def test_a_missing_an_extra_and_a_misshaped_key_are_named() -> None:
    file = public_file()
    del file["tokenizer.embeddings"]
    file["backbone.norm.bias"] = torch.zeros(31)
    file["optimizer"] = torch.zeros(1)
    with pytest.raises(InputError) as caught:
        TripoSR.from_public(file, TINY)
    assert caught.value.code == "WEIGHTS_MISMATCH"
    for words in (
        "1 missing (tokenizer.embeddings)",
        "1 not expected (optimizer)",
        "backbone.norm.bias [31] instead of [32]",
    ):
        assert words in caught.value.message


def test_half_precision_and_renamed_encoders_load_to_the_same_numbers() -> None:
    file = {name: tensor.half().float() for name, tensor in public_file().items()}
    new = {
        name.replace("encoder.layer.0.attention.attention.query", "layers.0.attention.q_proj")
        .replace("encoder.layer.0.attention.output.dense", "layers.0.attention.o_proj")
        .replace("encoder.layer.0.intermediate.dense", "layers.0.mlp.fc1"): tensor.half()
        for name, tensor in file.items()
    }
    assert set(new) != set(file) and set(renamed(new)) == set(file)
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(TripoSR.from_public(file, TINY)(image), TripoSR.from_public(new, TINY)(image))


def test_bfloat16_planes_differ_by_a_few_parts_in_a_thousand() -> None:
    image = torch.rand(3, 16, 16)
    planes = TripoSR.from_public(public_file(), TINY).field(image).planes
    reduced = TripoSR.from_public(public_file(), TINY, torch.bfloat16).field(image)
    assert reduced.planes.dtype == reduced.geometry(torch.zeros(1, 3)).dtype == torch.float32
    assert 0 < (reduced.planes - planes).abs().mean() / planes.abs().mean() < 0.01


def test_a_field_survives_its_file(tmp_path: Path) -> None:
    field = TripoSR.from_public(public_file(), TINY).field(torch.rand(3, 16, 16))
    field.save(tmp_path / "field.safetensors")
    again = load_field(tmp_path / "field.safetensors")
    assert isinstance(again, TriplaneField)
    points = torch.rand(100, 3) * 2 - 1
    assert again.rule == field.rule and again.level == 25 and again.channels == 3
    assert torch.equal(again.box, torch.tensor([[-0.87] * 3, [0.87] * 3]))
    assert torch.equal(again.geometry(points), field.geometry(points))
    assert torch.equal(again.appearance(points), field.appearance(points))


def constant_field(density: float, radius: float = 0.5) -> TriplaneField:
    """Density the same everywhere, colour black: raw values are biases only."""
    decoder = PlaneDecoder(3, 4, 1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.layers[-1].bias.copy_(torch.tensor([np.log(density) + 1, -100.0, -100.0, -100.0]))
    return TriplaneField(torch.zeros(3, 1, 2, 2), decoder.requires_grad_(False), TriplaneRule(radius=radius))


def test_triposr_alpha_ignores_the_chord_and_misses_are_white() -> None:
    # density 2 with step 1/128 everywhere: what is left is exp(-2) however long the ray is inside.
    origins = torch.tensor([[-3.0, 0.1, 0.2], [-3.0, 0.49, 0.49], [-3.0, 2.0, 0.0]])
    directions = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0]])
    colours, _, _ = render_triposr(constant_field(2.0), origins, directions, 128)
    assert torch.allclose(colours[:2], torch.full((2, 3), np.exp(-2.0)), atol=1e-5)
    assert torch.equal(colours[2], torch.ones(3))


def test_slab_of_a_diagonal_ray() -> None:
    # From (-2, 0, 0) towards (1, 1, 0)/sqrt 2: enters x = -1 at y = 1, which is the corner.
    near, far = slab(torch.tensor([-2.0, 0, 0]), torch.tensor([1.0, 1, 0]) / 2**0.5, 1.0, 1e-6)
    assert near.item() == pytest.approx(2**0.5) and far.item() == pytest.approx(2**0.5)


def test_cameras_stand_where_the_spec_says() -> None:
    origins, directions = triposr_rays(4, 0.0, 2.0, 90.0, 3, 3)
    assert torch.allclose(origins[0, 0, 0], torch.tensor([2.0, 0, 0]))
    assert torch.allclose(directions[0, 1, 1], torch.tensor([-1.0, 0, 0]), atol=1e-6)
    # The right-hand pixel looks towards +y, the upper one towards +z; focal = 1.5 px, offset 1 px.
    assert torch.allclose(directions[0, 1, 2], torch.tensor([-1.5, 1.0, 0]) / 3.25**0.5, atol=1e-6)
    assert torch.allclose(directions[0, 0, 1], torch.tensor([-1.5, 0, 1.0]) / 3.25**0.5, atol=1e-6)
    cameras = openlrm_turntable(5)
    assert torch.allclose(cameras[0], cameras[4], atol=1e-6)
    assert torch.allclose(cameras[0, [3, 7, 11]], torch.tensor([0.0, -(3.36**0.5), 0.8]), atol=1e-6)
    source = openlrm_source().tolist()
    front = torch.tensor([*source[:12], 0, 0, 0, 1, 0.75, 0, 0.5, 0, 0.75, 0.5, 0, 0, 1])[None]
    origins, directions = openlrm_rays(front, 1)
    assert torch.allclose(origins[0, 0], torch.tensor([0.0, -2, 0]))
    assert torch.allclose(directions[0, 0], torch.tensor([0.0, 1, 0]))


def test_foreground_fills_its_share_of_the_square() -> None:
    rgba = np.zeros((50, 60, 4), np.uint8)
    rgba[10:31, 20:62, :] = 255  # 21 rows, 40 columns; the published box drops the last of each: 20 x 39
    framed = centre_foreground(rgba, 0.85)
    assert framed.shape == (45, 45, 4)  # int(39 / 0.85)
    assert (framed[..., 3] > 0).sum() == 20 * 39
    with pytest.raises(InputError) as caught:
        centre_foreground(np.zeros((8, 8, 4), np.uint8))
    assert caught.value.code == "NO_FOREGROUND"


def test_unknown_classes_of_a_configuration_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        TripoSRConfig.from_public({"decoder_cls": "os.system"})
    assert caught.value.code == "CONFIG_UNKNOWN"


PUBLIC_YAML = """
cond_image_size: 512   # pixels
image_tokenizer_cls: tsr.models.tokenizers.image.DINOSingleImageTokenizer
image_tokenizer:
  pretrained_model_name_or_path: "facebook/dino-vitb16"
tokenizer_cls: tsr.models.tokenizers.triplane.Triplane1DTokenizer
tokenizer:
  plane_size: 32
  num_channels: 1024
backbone_cls: tsr.models.transformer.transformer_1d.Transformer1D
backbone:
  in_channels: ${tokenizer.num_channels}
  num_attention_heads: 16
  attention_head_dim: 64
  num_layers: 16
  cross_attention_dim: 768
post_processor_cls: tsr.models.network_utils.TriplaneUpsampleNetwork
post_processor:
  in_channels: 1024
  out_channels: 40
decoder_cls: tsr.models.network_utils.NeRFMLP
decoder:
  in_channels: 120 # 3 * 40
  n_neurons: 64
  n_hidden_layers: 9
  activation: silu
renderer_cls: tsr.models.nerf_renderer.TriplaneNeRFRenderer
renderer:
  radius: 0.87
  feature_reduction: concat
  density_activation: exp
  density_bias: -1.0
  num_samples_per_ray: 128
"""


def test_the_public_configuration_gives_the_default_sizes() -> None:
    public = read_configuration(PUBLIC_YAML)
    assert public["backbone"]["in_channels"] == 1024 and public["renderer"]["density_bias"] == -1.0
    assert public["image_tokenizer"]["pretrained_model_name_or_path"] == "facebook/dino-vitb16"
    assert TripoSRConfig.from_public(public) == TripoSRConfig()
    assert read_configuration('{"transformer_dim": 512}') == {"transformer_dim": 512}


@pytest.mark.parametrize("text", ["- a list", "{broken", "a:\n  b: ${c.d}\n"])
def test_an_unreadable_configuration_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_configuration(text)
    assert caught.value.code == "CONFIG_UNREADABLE"


@pytest.mark.parametrize("content", [b"", b"12345678{}", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_field_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_field(tmp_path / "x.safetensors")
    assert caught.value.code == "FIELD_UNREADABLE"
