# SPDX-License-Identifier: GPL-3.0-or-later
"""The Stable Diffusion autoencoder in its published layouts. Its numbers are checked with Zero123's."""

import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.models.sd_vae.layouts import diffusers, original, vae_from_public
from maquette.core.models.sd_vae.network import SDVae, VaeConfig

from tests.reference.published_file import filled, published

TINY = VaeConfig(32, (1, 2, 2), 1)


def test_parameter_counts_are_the_public_ones() -> None:
    with torch.device("meta"):
        vae = SDVae()
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in vae.named_children()}
    assert counts == {
        "encoder": 34_163_592, "decoder": 49_490_179, "quant_conv": 72, "post_quant_conv": 20
    }  # fmt: skip


@pytest.mark.parametrize("layout", ["original", "stable_diffusion", "lrf", "diffusers", "diffusers_old"])
def test_every_layout_gives_the_same_picture(layout: str) -> None:
    vae = filled(SDVae(TINY))
    if layout.startswith("diffusers"):
        file = published(vae, diffusers(3, layout.endswith("old")))
        assert list(
            file[
                "encoder.mid_block.attentions.0." + ("query" if "old" in layout else "to_q") + ".weight"
            ].shape
        ) == [64, 64]
        assert "decoder.up_blocks.2.resnets.0.conv_shortcut.weight" in file  # up.0, the last to run
    else:
        file = published(vae, original(), "first_stage_model." if layout == "stable_diffusion" else "")
    if layout == "lrf":  # a Lightning checkpoint holds the losses' networks too
        file |= {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.zeros(1)}
    if layout == "stable_diffusion":
        file["model.diffusion_model.out.2.bias"] = torch.zeros(4)
    image = torch.rand(1, 3, 16, 24) * 2 - 1
    loaded = vae_from_public(file, TINY)
    assert loaded.encode(image).shape == (1, 4, 4, 6)
    assert torch.equal(loaded.decode(loaded.encode(image)), vae.decode(vae.encode(image)))


def test_the_wrong_model_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        vae_from_public({"backbone.conv1.weight": torch.zeros(1)}, TINY)
    assert caught.value.code == "WEIGHTS_MISMATCH"
