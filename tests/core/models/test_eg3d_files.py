# SPDX-License-Identifier: GPL-3.0-or-later
"""EG3D's weight files: NVIDIA's pickles read without running them, hostile ones refused by name, safetensors of our own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.models.eg3d.configuration import CARS, CATS, FACES, Eg3dConfig, SuperResolutionConfig
from maquette.core.models.eg3d.encoder import EncoderConfig, PoseEncoder
from maquette.core.models.eg3d.files import save_generator
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.weights.contents import read_contents
from maquette.core.weights.networks import load_network
from maquette.core.weights.store import identify
from safetensors.torch import save_file
from torch import Tensor

from tests.reference.nvidia_pickle import PLANES, write_encoder, write_network

RENDERING = {
    "superresolution_module": "training.superresolution.SuperresolutionHybrid2X", "depth_resolution": 9,
    "depth_resolution_importance": 7, "ray_start": 0.5, "ray_end": 2.0, "box_warp": 1.25, "white_back": True,
    "avg_camera_radius": 1.5, "avg_camera_pivot": [0, 0.5, 0], "c_scale": 0.75, "gpc_reg_prob": None,
    "superresolution_noise_mode": "none", "c_gen_conditioning_zero": False, "clamp_mode": "softplus",
}  # fmt: skip
INIT = {
    "z_dim": 8, "c_dim": 25, "w_dim": 12, "conv_clamp": None, "sr_num_fp16_res": 4, "rendering_kwargs": RENDERING,
    "mapping_kwargs": {"num_layers": 2},
}  # fmt: skip
CONFIG = Eg3dConfig(
    8, 12, embed_width=6, mapping_widths=(10, 12), channels=(8, 8, 4), plane_features=5, decoder_hidden=7,
    neural_resolution=48,
    superresolution=SuperResolutionConfig(64, (False, True), (6, 4), own_filter=True),
    rendering=replace(
        CARS, depth_resolution=9, depth_resolution_importance=7, ray_start=0.5, ray_end=2.0, box_warp=1.25,
        avg_camera_radius=1.5, avg_camera_pivot=(0.0, 0.5, 0.0), c_scale=0.75, c_gen_conditioning_zero=False,
    ),
)  # fmt: skip


def network(config: Eg3dConfig = CONFIG) -> Eg3d:
    torch.manual_seed(0)
    return Eg3d(config).eval()


def contiguous(made: Eg3d) -> dict[str, Tensor]:
    """Weights as other programs save them."""
    return {name: tensor.contiguous() for name, tensor in made.state_dict().items()}


def same(a: Eg3d, b: torch.nn.Module) -> bool:
    ours: dict[str, Tensor] = b.state_dict()
    return a.state_dict().keys() == ours.keys() and all(
        torch.equal(ours[k], v) for k, v in a.state_dict().items()
    )


@pytest.mark.parametrize(
    ("protocol", "module"),
    [(4, ""), (3, ""), (4, "_imported_module_0f3a")],
    ids=["new", "old", "saved again"],
)
def test_nvidias_pickle(protocol: int, module: str, tmp_path: Path) -> None:
    made, path = network(), tmp_path / "net.pkl"
    ran = tmp_path / "source_ran"
    write_network(path, made, INIT, 48, f"open({str(ran)!r}, 'w')", protocol=protocol, decoder_module=module)
    assert identify(path) == "eg3d"
    shapes = read_contents(path).groups["G_ema"]
    assert {k: s.shape for k, s in shapes.items() if k != "dataset_label_std"} == {
        k: tuple(v.shape) for k, v in made.state_dict().items()
    }
    name, found = load_network(path)
    assert name == "eg3d" and same(made, found)
    assert found.config == CONFIG
    assert not ran.exists()


def test_the_encoders_pickle(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made, ran = PoseEncoder(EncoderConfig(16, (8, 8, 4), 12)), tmp_path / "source_ran"
    write_encoder(tmp_path / "encoder.pkl", made, f"open({str(ran)!r}, 'w')")
    name, found = load_network(tmp_path / "encoder.pkl")
    assert name == "eg3d_encoder" and isinstance(found, PoseEncoder)
    state = found.state_dict()
    assert all(torch.equal(state[key], value) for key, value in made.state_dict().items())
    assert not ran.exists()


def test_the_planes_axes_are_those_of_the_file(tmp_path: Path) -> None:
    repaired = [*PLANES[:2], [[0, 0, 1], [0, 1, 0], [1, 0, 0]]]
    write_network(tmp_path / "net.pkl", network(), INIT, 48, planes=repaired)
    assert load_network(tmp_path / "net.pkl")[1].config.plane_axes == "xy_xz_zy"
    write_network(tmp_path / "net.pkl", network(), INIT, 48, planes=[PLANES[1]] * 3)
    with pytest.raises(InputError) as caught:
        load_network(tmp_path / "net.pkl")
    assert "planes span the axes" in caught.value.message


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("hostile", "name"),
    [
        (Calls(os.system, "touch hostile_ran"), f"{os.system.__module__}.system"),
        (Calls(eval, "open('hostile_ran', 'w')"), "builtins.eval"),
        (Calls(getattr, os, "system"), "builtins.getattr"),
        (Calls(torch.hub.load_state_dict_from_url, "x"), "torch.hub.load_state_dict_from_url"),
    ],
    ids=["system", "eval", "getattr", "hub"],
)
def test_hostile_globals_are_refused_and_named(
    hostile: Calls, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "builtins.getattr":
        hostile.call = getattr, ("", "join")  # os itself cannot be pickled
    write_network(tmp_path / "net.pkl", network(), INIT, 48, extra=hostile)
    for read in (load_network, identify):
        with pytest.raises(InputError) as caught:
            read(tmp_path / "net.pkl")
        assert caught.value.code == "WEIGHTS_UNSAFE"
        assert name in caught.value.message
    assert not (tmp_path / "hostile_ran").exists()


def test_saved_as_safetensors_it_is_the_same(tmp_path: Path) -> None:
    write_network(tmp_path / "net.pkl", network(), INIT, 48)
    found = load_network(tmp_path / "net.pkl")[1]
    assert isinstance(found, Eg3d)
    save_generator(found, tmp_path / "net.safetensors")
    name, again = load_network(tmp_path / "net.safetensors")
    assert name == "eg3d" and again.config == found.config and same(found, again)
    save_generator(found, tmp_path / "half.safetensors", torch.float16)
    half = load_network(tmp_path / "half.safetensors")[1]
    assert half.config == found.config
    assert all(p.dtype == torch.float32 for p in half.parameters())
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * (
        tmp_path / "net.safetensors"
    ).stat().st_size


def test_plain_exports_take_their_settings_from_beside_or_from_presets(tmp_path: Path) -> None:
    state = contiguous(network())
    torch.save({"G_ema": state, "rendering_kwargs": RENDERING}, tmp_path / "export.pt")
    config = load_network(tmp_path / "export.pt")[1].config
    assert config == replace(CONFIG, neural_resolution=64)
    save_file(state, tmp_path / "plain-64.safetensors")
    assert load_network(tmp_path / "plain-64.safetensors")[1].config.rendering == CARS
    large = replace(CONFIG, superresolution=SuperResolutionConfig(widths=(256, 4)))
    for name, expected in (("afhqcats512-128", CATS), ("ffhq512-64", FACES)):
        save_file(contiguous(network(large)), tmp_path / f"{name}.safetensors")
        config = load_network(tmp_path / f"{name}.safetensors")[1].config
        assert config.rendering == expected and config.picture == 512
        assert config.neural_resolution == (64 if name.endswith("-64") else 128)


def test_settings_of_another_kind_are_no_crash(tmp_path: Path) -> None:
    save_file(contiguous(network()), tmp_path / "odd.safetensors", {"eg3d": '{"z_width": 3}'})
    with pytest.raises(InputError) as caught:
        load_network(tmp_path / "odd.safetensors")
    assert caught.value.code == "WEIGHTS_MISMATCH"
