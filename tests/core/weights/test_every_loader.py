# SPDX-License-Identifier: GPL-3.0-or-later
"""Every system's loader against every kind of bad or odd file (small networks, public key layouts)."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.models.campari import generator as campari
from maquette.core.models.depth_anything import model as depth_anything
from maquette.core.models.depth_anything.backbone import BackboneConfig
from maquette.core.models.dvr.network import DvrConfig, DvrNetwork
from maquette.core.models.eg3d.configuration import Eg3dConfig, SuperResolutionConfig
from maquette.core.models.eg3d.encoder import EncoderConfig as PoseEncoderConfig
from maquette.core.models.eg3d.encoder import PoseEncoder
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.face_parser.network import FaceParser
from maquette.core.models.giraffe import generator as giraffe
from maquette.core.models.loftr.network import LoFTR, LoFTRConfig
from maquette.core.models.lrm.openlrm import OpenLRM, OpenLRMConfig, layout_of
from maquette.core.models.lrm.triposr import LAYOUT as TRIPOSR_KEYS
from maquette.core.models.lrm.triposr import TripoSR, TripoSRConfig
from maquette.core.models.nerf.network import NerfConfig, NerfMlp
from maquette.core.models.occupancy_flow.network import (
    EncoderConfig,
    FlowConfig,
    OccupancyFlow,
    VelocityConfig,
)
from maquette.core.models.onet.decoders import DecoderConfig
from maquette.core.models.onet.network import OccupancyNetwork, OnetConfig
from maquette.core.models.parts.key_layout import KeyLayout
from maquette.core.models.parts.transformer import VisionTransformerConfig
from maquette.core.models.sd_vae import layouts as vae_layouts
from maquette.core.models.sd_vae.network import SDVae, VaeConfig
from maquette.core.models.sparseneus.model import LAYOUT as SPARSENEUS_KEYS
from maquette.core.models.sparseneus.model import SparseNeuS, SparseNeuSConfig
from maquette.core.models.texture_fields.network import TextureField, TextureFieldConfig
from maquette.core.models.zero123 import layouts as zero123_layouts
from maquette.core.models.zero123.model import Zero123, Zero123Config
from maquette.core.models.zero123.unet import UNetConfig
from maquette.core.weights import networks
from maquette.core.weights.contents import read_contents
from maquette.core.weights.layouts import NAMES, network_keys, recognise
from maquette.core.weights.networks import load_network
from maquette.core.weights.safe_loader import read_checkpoint, release
from safetensors.torch import save_file
from torch import Tensor, nn

State = dict[str, Tensor]
VIT = VisionTransformerConfig(width=24, depth=2, heads=3, hidden=48, patch=8, image=32)
DINO2 = replace(VIT, patch=14, image=84, registers=4, layer_scale=True, resize="antialias")
TRIPOSR = TripoSRConfig(32, replace(VIT, pooler=True), 4, 32, 2, 16, 2, 32, 8, 16, 2)
OPENLRM = OpenLRMConfig("1.1", DINO2, 16, 64, 2, 1, 4, 6)
OPENLRM_OLD = replace(OPENLRM, version="1.0", encoder=VIT)
ZERO123 = Zero123Config(
    64,
    UNetConfig(channels=32, multipliers=(1, 2), blocks=1, attention=(1, 2), heads=4, context=24),
    VaeConfig(32, (1, 1), 1),
    VisionTransformerConfig(
        width=32, depth=2, heads=4, hidden=128, patch=7, image=28, eps=1e-5, quick_gelu=True, norm_before=True
    ),
    24,
)
VAE = VaeConfig(32, (1, 2), 1)
LOFTR = LoFTRConfig(16, (16, 24, 32), ("self", "cross"), coarse_heads=4, fine_heads=4)
SPARSENEUS = SparseNeuSConfig(
    (8, 8, 8), pyramid=(4, 8, 8), compressed=4, latent=4, sparse=(8, 8, 8), hidden=16
)
EG3D = Eg3dConfig(
    8, 12, embed_width=6, mapping_widths=(10, 12), channels=(8, 8, 4), plane_features=5, decoder_hidden=7,
    superresolution=SuperResolutionConfig(64, (False, True), (6, 4), own_filter=True),
)  # fmt: skip
DEPTH = depth_anything.DepthAnythingConfig(BackboneConfig(width=48, heads=2), (8, 8, 8, 8), 8)
FLOW = FlowConfig(
    VelocityConfig(16, 8),
    DecoderConfig("cbatchnorm", 16, 8),
    EncoderConfig("points", 8, 8),
    EncoderConfig("points", 8, 8, 51),
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What exists in one size only exists in a small one here."""
    for name, config in {
        "TRIPOSR": TRIPOSR, "ZERO123": ZERO123, "LOFTR": LOFTR, "SPARSENEUS": SPARSENEUS,
    }.items():  # fmt: skip
        monkeypatch.setattr(networks, name, config)
    for name, encoder in {"dinov2_mini14_reg": DINO2, "facebook/dino-mini": VIT}.items():
        monkeypatch.setitem(networks.ENCODERS, name, encoder)
    monkeypatch.setattr(depth_anything, "SMALL", DEPTH)


def public(make: Callable[[], nn.Module], keys: Callable[[nn.Module], dict[str, list[int]]]) -> State:
    """Random weights under the public names."""
    with torch.device("meta"):
        network = make()
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.zeros(shape, dtype=torch.int64)
        if name.endswith("num_batches_tracked")
        else torch.randn(shape, generator=generator)
        for name, shape in keys(network).items()
    }


def _convonet() -> State:
    path = Path(__file__).parents[4] / "shared" / "fixtures" / "implicit" / "keys_convonet.json"
    if not path.is_file():
        pytest.skip("needs ../shared: the network is made from the key table")
    tables = json.loads(path.read_text())
    keys = next(entry["keys"] for case, entry in tables.items() if "pointcloud/shapenet_grid32" in case)
    return {
        key: torch.zeros(shape, dtype=torch.int64) if "num_batches" in key else torch.ones(shape)
        for key, shape, _ in keys
    }


def _prefixed(state: State, prefix: str) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


def _diffusers() -> State:
    def keys(model: nn.Module) -> dict[str, list[int]]:
        parts = zero123_layouts.diffusers(ZERO123, {"clip_camera_projection.": torch.zeros(1)})
        return {
            prefix + name: shape
            for part, (prefix, layout) in parts.items()
            for name, shape in layout.public_shapes(model.get_submodule(part)).items()
        }

    return public(lambda: Zero123(ZERO123), keys)


def ours(make: Callable[[], nn.Module]) -> Callable[[], State]:
    return lambda: public(make, KeyLayout().public_shapes)


SYSTEMS: dict[str, Callable[[], State]] = {
    "triposr": lambda: public(lambda: TripoSR(TRIPOSR), TRIPOSR_KEYS.public_shapes),
    "openlrm": lambda: public(lambda: OpenLRM(OPENLRM), layout_of(OPENLRM).public_shapes),
    "openlrm 1.0": lambda: public(lambda: OpenLRM(OPENLRM_OLD), layout_of(OPENLRM_OLD).public_shapes),
    "zero123": lambda: public(lambda: Zero123(ZERO123), zero123_layouts.public_shapes),
    "zero123 diffusers": _diffusers,
    "sparseneus": lambda: public(lambda: SparseNeuS(SPARSENEUS), SPARSENEUS_KEYS.public_shapes),
    "loftr": ours(lambda: LoFTR(LOFTR)),
    "depth_anything": lambda: _prefixed(
        public(lambda: depth_anything.DepthAnything(DEPTH), depth_anything.LAYOUT.public_shapes), "model."
    ),
    "sd_vae": ours(lambda: SDVae(VAE)),
    "sd_vae diffusers": lambda: public(lambda: SDVae(VAE), vae_layouts.diffusers(2).public_shapes),
    "sd_vae in a checkpoint": lambda: _prefixed(SYSTEMS["sd_vae"](), "first_stage_model."),
    "eg3d": ours(lambda: Eg3d(EG3D)),
    "eg3d_encoder": ours(lambda: PoseEncoder(PoseEncoderConfig(16, (8, 8, 4), 24))),
    "face_parser": ours(FaceParser),
    "giraffe": ours(lambda: giraffe.Giraffe(giraffe.PUBLISHED["256res/clevr2345_256"])),
    "campari": ours(lambda: campari.Campari(campari.PUBLISHED["cats"])),
    "texture_fields": ours(lambda: TextureField(TextureFieldConfig(16, 8, 16, 5, 16, image=False))),
    "occupancy_flow": ours(lambda: OccupancyFlow(FLOW)),
    "onet": ours(
        lambda: OccupancyNetwork(OnetConfig(DecoderConfig("cbatchnorm", 16, 8), "pointnet_resnet", 12))
    ),
    "convonet": _convonet,
    "dvr": ours(lambda: DvrNetwork(DvrConfig(16, 0))),
    "nerf": ours(lambda: NerfMlp(NerfConfig(width=16))),
    "graf": ours(lambda: NerfMlp(NerfConfig(63 + 4, 27 + 4, 16))),
}
LENIENT = ("zero123", "zero123 diffusers", "sd_vae in a checkpoint")
"""Published as parts of larger files, so other keys are no fault."""


@cache
def state_of(case: str) -> State:
    return SYSTEMS[case]()


def layout_of_case(case: str) -> str:
    return case.split(" ")[0]


def victim(state: State, case: str) -> str:
    """A key without which the system is still recognised, and which its network needs."""
    for key in sorted(state, key=lambda key: (state[key].ndim < 2, key)):
        rest = {name: tensor for name, tensor in state.items() if name != key}
        if state[key].ndim and not key.endswith(".f"):
            try:
                if recognise(rest, Path("x")) == layout_of_case(case):
                    return key
            except InputError:
                continue
    raise AssertionError("no key to leave out")


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch hostile_ran",)


def written(case: str, kind: str, folder: Path) -> Path:
    """A file of the system with one thing wrong or odd."""
    state, path = dict(state_of(case)), folder / "file.safetensors"
    key = victim(state, case)
    floating = {name: t for name, t in state.items() if t.is_floating_point()}
    if kind == "missing":
        del state[key]
    elif kind == "misshapen":
        state[key] = torch.zeros([size + 1 for size in state[key].shape])
    elif kind == "zero-dimensional":
        state = {name: torch.tensor(0.0) for name in state}
    elif kind == "extra":
        state["surplus.weight"] = torch.zeros(3)
    elif kind == "nan":
        state[key] = torch.full_like(state[key], float("nan"))
    elif kind in ("float64", "bfloat16", "float16"):
        state |= {name: t.to(getattr(torch, kind)) for name, t in floating.items()}
    elif kind == "wrapped":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    elif kind == "empty":
        path.touch()
        return path
    elif kind == "folder":
        path.mkdir()
        return path
    elif kind != "plain":
        path = folder / "file.ckpt"
        beside = {"model": state, "optimizer": {"state": {0: {"exp_avg": state[key]}}}, "epoch": 3}
        average = {name: t + 1 if t.is_floating_point() else t for name, t in state.items()}
        content: Any = {
            "truncated": state,
            "hostile": {**state, "extra": Hostile()},
            "optimiser": beside,
            "average": {**beside, "model_ema": average},
            "lightning": {"state_dict": state, "optimizer_states": [], "callbacks": {}},
        }[kind]
        torch.save(content, path)
        if kind == "truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


@pytest.mark.parametrize("case", SYSTEMS)
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("missing", "WEIGHTS_MISMATCH"),
        ("misshapen", "WEIGHTS_MISMATCH"),
        ("zero-dimensional", "WEIGHTS_MISMATCH"),
        ("extra", "WEIGHTS_MISMATCH"),
        ("nan", "WEIGHTS_NOT_FINITE"),
        ("truncated", "WEIGHTS_DAMAGED"),
        ("hostile", "WEIGHTS_UNSAFE"),
        ("empty", "WEIGHTS_EMPTY"),
        ("folder", "WEIGHTS_IS_FOLDER"),
    ],
)
def test_bad_files(case: str, kind: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(case, kind, tmp_path)
    if kind == "extra" and case in LENIENT:
        assert load_network(path)[0] == layout_of_case(case)
        return
    with pytest.raises(InputError) as caught:
        load_network(path)
    assert caught.value.code == code, caught.value
    assert caught.value.remedy
    assert not (tmp_path / "hostile_ran").exists()
    if kind == "nan":
        assert victim(state_of(case), case).rsplit(".", 1)[-1] in caught.value.message


@pytest.mark.parametrize("case", SYSTEMS)
@pytest.mark.parametrize(
    "kind", ["plain", "float64", "bfloat16", "float16", "wrapped", "optimiser", "average", "lightning"]
)
def test_odd_files_load(case: str, kind: str, tmp_path: Path) -> None:
    path = written(case, kind, tmp_path)
    name, network = load_network(path)
    assert name == layout_of_case(case)
    assert not network.training
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert all(bool(p.isfinite().all()) and p.device.type == "cpu" for p in network.parameters())
    plain = sum(float(t.double().sum()) for t in state_of(case).values() if t.is_floating_point())
    count = sum(t.numel() for t in state_of(case).values() if t.is_floating_point())
    found = sum(float(t.double().sum()) for t in network.state_dict().values() if t.is_floating_point())
    if case == "depth_anything":  # a norm that the four levels share stands four times in our network
        return
    wanted = plain + (count if kind == "average" else 0.0)
    assert found == pytest.approx(wanted, abs=0.02 * count**0.5 + 1e-3)


@pytest.mark.parametrize("case", SYSTEMS)
def test_names_and_shapes_alone_tell_the_same(case: str, tmp_path: Path) -> None:
    for kind in ("plain", "lightning"):
        path = written(case, kind, tmp_path)
        shapes = network_keys(read_contents(path), path)
        tensors = network_keys(read_checkpoint(path), path)
        assert {key: leaf.shape for key, leaf in shapes.items()} == {
            key: tuple(tensor.shape) for key, tensor in tensors.items()
        }
        assert recognise(shapes, path) == recognise(tensors, path) == layout_of_case(case)


def test_all_systems_are_here() -> None:
    assert {layout_of_case(case) for case in SYSTEMS} == NAMES


@pytest.mark.parametrize("case", ["triposr", "onet"])
def test_missing_extra_and_wrong_shapes_are_listed(case: str, tmp_path: Path) -> None:
    state = dict(state_of(case))
    first, second = [
        key for key in sorted(state) if state[key].ndim == 2 and ("block" in key or "norm" in key)
    ][:2]
    del state[first]
    state[second] = torch.zeros(3, 5)
    save_file(state | {"surplus.weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError) as caught:
        load_network(tmp_path / "a.safetensors")
    for word in ("1 missing", first, "1 not expected", "surplus.weight", second, "[3, 5] instead of"):
        assert word in caught.value.message


def test_configuration_beside_the_weights_decides(tmp_path: Path) -> None:
    save_file(state_of("openlrm"), tmp_path / "model.safetensors")
    sizes = {
        "camera_embed_dim": 16, "rendering_samples_per_ray": 32, "transformer_dim": 64, "transformer_layers": 2,
        "transformer_heads": 4, "triplane_low_res": 4, "triplane_high_res": 8, "triplane_dim": 6, "encoder_type": "dinov2",
        "encoder_model_name": "dinov2_mini14_reg",
    }  # fmt: skip
    assert load_network(tmp_path / "model.safetensors")[1].config.heads == 1
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    config = load_network(tmp_path / "model.safetensors")[1].config
    assert (config.heads, config.samples) == (4, 32)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError) as caught:
        load_network(tmp_path / "model.safetensors")
    assert caught.value.code == "CONFIG_UNREADABLE"
    old = {
        "weights": state_of("openlrm 1.0"),
        "kwargs": {"model": {**sizes, "encoder_model_name": "facebook/dino-mini"}},
    }
    del old["kwargs"]["model"]["encoder_type"]
    (tmp_path / "old").mkdir()
    torch.save(old, tmp_path / "old" / "model.pth")
    name, network = load_network(tmp_path / "old" / "model.pth")
    assert (name, network.config.version, network.config.heads) == ("openlrm", "1.0", 4)


def test_zero123_samples_with_the_average(tmp_path: Path) -> None:
    state = dict(state_of("zero123"))
    key = "model.diffusion_model.time_embed.0.weight"
    average = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor + 1
        for name, tensor in state.items()
        if name.startswith("model.diffusion_model.")
    }
    torch.save({"state_dict": {**state, **average, "betas": torch.zeros(3)}}, tmp_path / "105000.ckpt")
    name, network = load_network(tmp_path / "105000.ckpt", torch.float16)
    assert name == "zero123" and network.cc_projection.weight.dtype == torch.float16
    assert torch.equal(network.unet.time_embed[0].weight, (state[key] + 1).half())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_of_a_mapped_file_are_let_go_and_come_back(tmp_path: Path) -> None:
    def mapped_kib() -> int:
        return int(Path("/proc/self/status").read_text().split("RssFile:")[1].split()[0])

    numbers = torch.arange(1 << 22, dtype=torch.float32)  # 16 MiB
    save_file({"a": numbers}, tmp_path / "a.safetensors")
    torch.save({"a": numbers}, tmp_path / "a.pt")
    torch.save({"a": numbers}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert not read_checkpoint(tmp_path / "old.pt").mapped
    for name in ("a.safetensors", "a.pt"):
        content = read_checkpoint(tmp_path / name)
        assert content.mapped
        tensor = content.groups[""]["a"]
        assert torch.equal(tensor, numbers)
        held = mapped_kib()
        release(tensor)
        assert held - mapped_kib() > 15 << 10
        assert torch.equal(tensor, numbers)


def test_a_folder_of_parts(tmp_path: Path) -> None:
    state = state_of("zero123 diffusers")
    for part in sorted({key.split(".")[0] for key in state}):
        (tmp_path / part).mkdir()
        own = {
            key.removeprefix(f"{part}."): t.contiguous()
            for key, t in state.items()
            if key.startswith(f"{part}.")
        }
        save_file(own, tmp_path / part / "model.safetensors")
    assert load_network(tmp_path)[0] == "zero123"


def test_objects_of_a_trainer_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lrf.ckpt` names Lightning's ModelCheckpoint, the class itself as a key and an object."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    callback = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = callback  # type: ignore[attr-defined]
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    best = callback()
    best.path = "a/b.ckpt"
    content = {"state_dict": state_of("sd_vae"), "callbacks": {callback: {"best": 1.0}}, "object": best}
    torch.save(content, tmp_path / "lrf.ckpt")
    torch.save(content, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    monkeypatch.undo()
    assert load_network(tmp_path / "lrf.ckpt")[0] == load_network(tmp_path / "old.ckpt")[0] == "sd_vae"


def nvidia_pickle(path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> State:
    """A generator as NVIDIA's code pickles it: objects with the source text of their classes."""
    import pickle

    persistence = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
        raise AssertionError("this is what must not be called")

    _reconstruct_persistent_obj.__module__ = persistence.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, persistence.__name__, persistence)

    class Persistent:
        def __init__(self, parameters: State, buffers: State, modules: dict[str, Any]) -> None:
            self.state = {"_parameters": parameters, "_buffers": buffers, "_modules": modules, "z_dim": 8,
                          "_non_persistent_buffers_set": {"passing"}}  # fmt: skip

        def __reduce__(self) -> Any:
            meta = {
                "type": "class",
                "version": 6,
                "module_src": source,
                "class_name": "X",
                "state": self.state,
            }
            return _reconstruct_persistent_obj, (meta,)

    torch.manual_seed(0)
    parts = {
        "mapping.fc0": {"weight": nn.Parameter(torch.randn(4, 6)), "bias": None},
        "synthesis.b4": {"const": nn.Parameter(torch.randn(4, 4, 4))},
    }
    tree = {
        name.split(".")[0]: Persistent(
            {}, {}, {name.split(".")[1]: Persistent(p, {"passing": torch.ones(1)}, {})}
        )
        for name, p in parts.items()
    }
    decoder = nn.Sequential(nn.Linear(3, 4), nn.Softplus())
    blur = Persistent({}, {"resample_filter": torch.ones(4, 4)}, {})
    generator = Persistent(
        {}, {}, {"backbone": Persistent({}, {}, tree), "superresolution": blur, "decoder": decoder}
    )
    path.write_bytes(pickle.dumps({"G_ema": generator, "G": generator, "training_set_kwargs": {"a": 1}}))
    monkeypatch.undo()
    return {
        "backbone.mapping.fc0.weight": parts["mapping.fc0"]["weight"],
        "backbone.synthesis.b4.const": parts["synthesis.b4"]["const"],
        "superresolution.resample_filter": torch.ones(4, 4),
        "decoder.0.weight": decoder[0].weight,
        "decoder.0.bias": decoder[0].bias,
    }


def test_generators_of_nvidia_are_read_without_their_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"open({str(tmp_path / 'hostile_ran')!r}, 'w')"
    expected = nvidia_pickle(tmp_path / "net.pkl", monkeypatch, source)
    found = network_keys(read_checkpoint(tmp_path / "net.pkl"), tmp_path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    shapes = network_keys(read_contents(tmp_path / "net.pkl"), tmp_path)
    assert {key: leaf.shape for key, leaf in shapes.items()} == {
        k: tuple(t.shape) for k, t in expected.items()
    }
    assert recognise(shapes, tmp_path) == "eg3d"
    with pytest.raises(InputError) as caught:  # recognised, but this one lacks most of its weights
        load_network(tmp_path / "net.pkl")
    assert caught.value.code == "WEIGHTS_MISMATCH"
    assert not (tmp_path / "hostile_ran").exists()
    data = (tmp_path / "net.pkl").read_bytes()
    (tmp_path / "half.pkl").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError) as damage:
        load_network(tmp_path / "half.pkl")
    assert damage.value.code == "WEIGHTS_DAMAGED"


def test_a_folder_whose_parts_hold_no_weights(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    torch.save({"epoch": 3}, tmp_path / "unet" / "model.bin")
    with pytest.raises(InputError) as caught:
        load_network(tmp_path)
    assert caught.value.code in ("WEIGHTS_NO_TENSORS", "WEIGHTS_UNKNOWN")
