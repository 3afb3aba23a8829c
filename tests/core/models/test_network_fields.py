# SPDX-License-Identifier: GPL-3.0-or-later
"""Every implicit and generative system as a field: values in range, and the same values after saving and loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.models.campari import generator as campari
from maquette.core.models.campari.decoder import FieldConfig as CampariFieldConfig
from maquette.core.models.campari.field import CampariField
from maquette.core.models.dvr.field import DvrField
from maquette.core.models.dvr.network import DvrConfig, DvrNetwork
from maquette.core.models.giraffe import generator as giraffe
from maquette.core.models.giraffe.decoder import FieldConfig
from maquette.core.models.giraffe.field import GiraffeObjectField
from maquette.core.models.graf.field import GrafField
from maquette.core.models.graf.generator import POSITION_DIM, VIEW_DIM
from maquette.core.models.nerf.field import NerfField
from maquette.core.models.nerf.network import NerfConfig, NerfMlp
from maquette.core.models.network_field import NetworkField
from maquette.core.models.occupancy_flow import network as flow
from maquette.core.models.occupancy_flow.field import FlowField
from maquette.core.models.onet.decoders import DecoderConfig
from maquette.core.models.onet.field import OnetField
from maquette.core.models.onet.network import OccupancyNetwork, OnetConfig
from maquette.core.models.stored_field import load_field
from maquette.core.models.texture_fields.field import TextureFieldColours
from maquette.core.models.texture_fields.network import TextureField, TextureFieldConfig
from torch import Tensor


def fields() -> dict[str, NetworkField]:
    torch.manual_seed(0)
    onet = OccupancyNetwork(OnetConfig(DecoderConfig("cbatchnorm", 16, 8), "pointnet_resnet", 12)).eval()
    texture = TextureField(TextureFieldConfig(8, 4, 16, 5, 8, image=False)).eval()
    encoders = flow.EncoderConfig("points", 8, 8), flow.EncoderConfig("points", 8, 8, 6)
    moving = flow.OccupancyFlow(
        flow.FlowConfig(flow.VelocityConfig(16, 8), DecoderConfig("cbatchnorm", 16, 8), *encoders)
    ).eval()
    head = campari.Campari(campari.CampariConfig(CampariFieldConfig(16, 8), None, camera_hidden=8))
    return {
        "onet": OnetField.of(onet, torch.rand(1, 20, 3)),
        "dvr": DvrField.of(DvrNetwork(DvrConfig(16, 0)), None),
        "texture_fields": TextureFieldColours.of(
            texture, torch.rand(1, 9, 3), torch.rand(1, 9, 3), torch.rand(1, 4)
        ),
        "flow": FlowField.of(moving, torch.rand(1, 2, 20, 3), time=0.5),
        "nerf": NerfField.of(NerfMlp(NerfConfig(width=16)), [[-1.0] * 3, [1.0] * 3]),
        "graf": GrafField.of(NerfMlp(NerfConfig(POSITION_DIM + 4, VIEW_DIM + 4, 16)), torch.rand(1, 8)),
        "giraffe": GiraffeObjectField.of(
            giraffe.Giraffe(giraffe.GiraffeConfig(FieldConfig(16, 8, 16))), torch.rand(1, 8)
        ),
        "campari": CampariField.of(head, torch.rand(1, 8)),
    }


NAMES = ("onet", "dvr", "texture_fields", "flow", "nerf", "graf", "giraffe", "campari")


def values(field: NetworkField, points: Tensor) -> list[Tensor]:
    out = [field.geometry(points)] if field.has_geometry else []
    return [*out, field.appearance(points)] if field.has_appearance else out


@pytest.mark.parametrize("name", NAMES)
def test_saved_fields_say_the_same(name: str, tmp_path: Path) -> None:
    field = fields()[name]
    points = (torch.rand(40, 3) - 0.5) * (field.box[1] - field.box[0])
    before = values(field, points)
    assert before[0].shape[0] == 40
    assert all(bool((v >= 0).all()) for v in before)
    if field.has_appearance:
        assert before[-1].shape == (40, 3)
        assert bool((before[-1] <= 1).all())
    field.save(tmp_path / "field.safetensors")
    loaded = load_field(tmp_path / "field.safetensors")
    assert loaded.level == field.level
    assert torch.equal(loaded.box, field.box)
    assert all(torch.equal(a, b) for a, b in zip(before, values(loaded, points), strict=True))


def test_other_files_are_no_fields(tmp_path: Path) -> None:
    (tmp_path / "field.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError) as caught:
        load_field(tmp_path / "field.safetensors")
    assert caught.value.code == "FIELD_UNREADABLE"
