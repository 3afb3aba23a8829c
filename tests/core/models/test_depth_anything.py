# SPDX-License-Identifier: GPL-3.0-or-later
"""Depth Anything 3: published sizes, loading, and properties that do not need published numbers."""

import re

import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.models.depth_anything import model as da3
from maquette.core.models.depth_anything.backbone import BackboneConfig, reference_first, rotate
from maquette.core.models.depth_anything.heads import uv_embedding
from maquette.core.models.depth_anything.model import (
    DepthAnything,
    DepthAnythingConfig,
    pinholes,
    poses,
    prepare,
)

from tests.reference.published_file import filled, published


def tiny() -> DepthAnything:
    """Four taken blocks as published, everything else small."""
    config = DepthAnythingConfig(BackboneConfig(16, 2, 10, 14, 4, 2, (3, 5, 7, 9)), (4, 4, 4, 4), 8)
    model = filled(DepthAnything(config), 3)
    with torch.no_grad():
        model.cam_dec.fc_fov[0].bias.fill_(1.0)
    return model


@pytest.mark.parametrize(
    ("config", "total", "unused"), [(da3.SMALL, 34_299_463, 7_178_496), (da3.BASE, 135_366_599, 28_660_224)]
)
def test_parameter_counts_are_the_public_ones(config: DepthAnythingConfig, total: int, unused: int) -> None:
    # unused: the encoder of given poses, four blocks of the backbone's width, a two-layer MLP from 9 numbers, two norms.
    width = config.backbone.width
    block = (
        4 * width + 3 * width * (width + 1) + width * (width + 1) + 2 * width + 8 * width * width + 5 * width
    )
    mlp = 9 * width // 2 + width // 2 + width // 2 * width + width
    assert 4 * block + mlp + 4 * width == unused
    with torch.device("meta"):
        assert sum(p.numel() for p in DepthAnything(config).parameters()) == total - unused


def test_a_prediction_has_its_shapes_and_follows_the_order_of_the_views() -> None:
    model, images = tiny(), torch.rand(4, 3, 28, 42, generator=torch.Generator().manual_seed(5))
    out = model(images)
    assert out.depth.shape == out.confidence.shape == (4, 28, 42)
    assert out.rays.shape == (4, 16, 24, 6) and out.ray_confidence.shape == (4, 16, 24)
    assert out.cam_to_world.shape == (4, 4, 4) and out.intrinsics.shape == (4, 3, 3)
    assert (out.depth > 0).all() and (out.confidence > 1).all()
    order = [2, 0, 3, 1]
    shuffled = model(images[order])  # the reference is chosen by what the views show, not by their order
    assert torch.allclose(shuffled.depth, out.depth[order], rtol=1e-4)
    assert torch.allclose(shuffled.cam_to_world, out.cam_to_world[order], atol=1e-4)


def test_a_public_file_loads_whatever_the_numbering_of_its_last_layers() -> None:
    model = tiny()
    file = published(model, da3.LAYOUT, "model.")
    shifted = {"model.cam_enc.token_norm.weight": torch.zeros(3)}
    for name, tensor in file.items():
        match = re.match(r"(.*output_conv2_aux\.)(\d)\.(\d)(\..*)", name)
        if match and match[3] == "1" and match[2] != "0":
            continue  # a shared tensor is stored once
        index = {"0": "0", "1": "2", "3": "5"}  # with axis swaps before and after the norm
        shifted[f"{match[1]}{match[2]}.{index[match[3]]}{match[4]}" if match else name] = tensor
    own = da3.canonical({name.removeprefix("model."): t for name, t in shifted.items()})
    assert da3.LAYOUT.ours(model, own).keys() == model.state_dict().keys()
    assert all(torch.equal(own[name.removeprefix("model.")], tensor) for name, tensor in file.items())


def test_another_model_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        DepthAnything.from_public({"backbone.conv1.weight": torch.zeros(1)})
    assert caught.value.code == "WEIGHTS_MISMATCH"


def test_rotary_products_depend_on_the_difference_of_places_only() -> None:
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)
    products = [
        (rotate(q, torch.tensor([[1 + s, 2 + s]])) * rotate(k, torch.tensor([[4 + s, 3 + s]]))).sum()
        for s in (0, 5, 9)
    ]
    assert torch.allclose(products[0], products[1], atol=1e-4) and torch.allclose(
        products[0], products[2], atol=1e-4
    )
    assert torch.equal(rotate(q, torch.tensor([[0, 0]])), q)


def test_the_reference_is_the_most_ordinary_view() -> None:
    # Norms 1, 2, 3 along nearly the same direction: the middle one is half-way in norm and variance.
    tokens = torch.tensor([[1.0, 0.0, 0.2], [2.0, 0.1, 0.4], [3.0, 0.6, 0.6]])
    assert reference_first(tokens).tolist() == [1, 0, 2]


def test_quaternion_and_field_of_view() -> None:
    # A quarter turn about y: x y z w = (0, sin 45, 0, cos 45); the camera's z axis becomes the world's x axis.
    pose = poses(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 1.0, 0.0, 1.0]]))[0]
    assert torch.allclose(pose[:3, 2], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)
    assert pose[:3, 3].tolist() == [1.0, 2.0, 3.0]
    k = pinholes(torch.tensor([[torch.pi / 2, 2 * torch.atan(torch.tensor(2.0))]]), 100, 200)[0]
    assert k.flatten().tolist() == pytest.approx([50, 0, 100, 0, 50, 50, 0, 0, 1], abs=1e-4)


def test_pictures_are_resized_to_patches_and_cut_to_a_common_size() -> None:
    batch = prepare([torch.rand(3, 300, 400), torch.rand(3, 400, 300)], 112)
    assert batch.shape == (2, 3, 84, 84)  # 84 x 112 and 112 x 84


def test_uv_embedding_spans_the_diagonal() -> None:
    # aspect 1: x of the last of 4 columns is 3/4 / sqrt 2; the first channel is its sine at rate 1.
    table = uv_embedding(8, 4, 4, 1.0, torch.zeros(1))
    expected = torch.sin(torch.tensor(0.75 / 2**0.5))
    assert table.shape == (8, 4, 4) and table[0, 0, 3] == pytest.approx(float(expected))
