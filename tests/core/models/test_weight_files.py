# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of weight file an artist may pick: what loads, and how the rest is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.errors import InputError, MissingError
from maquette.core.models.dvr.network import DvrConfig, DvrNetwork
from maquette.core.models.graf.generator import POSITION_DIM, VIEW_DIM
from maquette.core.models.nerf.network import NerfConfig, NerfMlp
from maquette.core.models.onet.decoders import DecoderConfig
from maquette.core.models.onet.network import OccupancyNetwork, OnetConfig
from maquette.core.weights.networks import load_network
from maquette.core.weights.safe_loader import read_checkpoint
from safetensors.torch import save_file

CONFIG = OnetConfig(DecoderConfig("cbatchnorm", 16, 8), "pointnet_resnet", 12)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return OccupancyNetwork(CONFIG).state_dict()


def code_of(path: Path) -> str:
    with pytest.raises((InputError, MissingError)) as caught:
        load_network(path)
    return caught.value.code


def test_zip_legacy_and_safetensors_give_the_same_network(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    content = {
        "model": state,
        "optimizer": {"state": {0: state["decoder.fc_p.bias"]}},
        "loss_val_best": np.float64(0.5),
    }
    torch.save(content, tmp_path / "new.pt")
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "flat.safetensors")
    for name in ("new.pt", "old.pt", "flat.safetensors"):
        system, network = load_network(tmp_path / name)
        assert system == "onet"
        assert network.config == CONFIG
        assert torch.equal(network.state_dict()["encoder.fc_c.weight"], state["encoder.fc_c.weight"])


def test_numpy_scalars_are_kept_as_scalars(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({"model": state, "it": 3, "fid_best": np.float64(12.5)}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt").scalars == {"it": 3, "fid_best": 12.5}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_become_float32(
    tmp_path: Path, state: dict[str, torch.Tensor], dtype: torch.dtype
) -> None:
    save_file(
        {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "a.safetensors"
    )
    _, network = load_network(tmp_path / "a.safetensors")
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_wrapped_keys_and_moving_average(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = NerfConfig(POSITION_DIM + 4, VIEW_DIM + 4, 16)
    plain, average = (NerfMlp(config).state_dict() for _ in range(2))
    wrapped = {f"module.{key}": value for key, value in average.items()}
    torch.save(
        {"generator": plain, "generator_test": wrapped, "g_optimizer": {"state": {}}}, tmp_path / "a.pt"
    )
    system, network = load_network(tmp_path / "a.pt")
    assert system == "graf"
    assert torch.equal(network.alpha_linear.weight, average["alpha_linear.weight"])


def test_counters_may_be_absent(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file({k: v for k, v in state.items() if "num_batches" not in k}, tmp_path / "a.safetensors")
    load_network(tmp_path / "a.safetensors")


def test_a_single_object_of_dvr_is_told_from_the_rest(tmp_path: Path) -> None:
    save_file(DvrNetwork(DvrConfig(16, 0)).state_dict(), tmp_path / "angel.safetensors")
    assert load_network(tmp_path / "angel.safetensors")[0] == "dvr"


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch hostile_ran",)


def test_hostile_pickles_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Hostile()}, tmp_path / "new.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Hostile()))
    assert code_of(tmp_path / "new.pt") == "WEIGHTS_UNSAFE"
    assert code_of(tmp_path / "plain.pkl") in ("WEIGHTS_UNSAFE", "WEIGHTS_DAMAGED")
    assert not (tmp_path / "hostile_ran").exists()


def test_refusals(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    assert code_of(tmp_path / "absent.pt") == "WEIGHTS_MISSING"
    assert code_of(tmp_path) == "WEIGHTS_IS_FOLDER"
    (tmp_path / "empty.pt").touch()
    assert code_of(tmp_path / "empty.pt") == "WEIGHTS_EMPTY"
    assert code_of(tmp_path / "empty.pt" / "inside.pt") == "WEIGHTS_UNREADABLE"
    (tmp_path / "photo.pt").write_bytes(b"\xff\xd8\xff\xe0 not weights at all")
    assert code_of(tmp_path / "photo.pt") == "WEIGHTS_FORMAT"
    torch.save({"model": state}, tmp_path / "whole.pt")
    for name, kept in (("half.pt", 0.5), ("start.pt", 0.01)):
        data = (tmp_path / "whole.pt").read_bytes()
        (tmp_path / name).write_bytes(data[: int(len(data) * kept)])
        assert code_of(tmp_path / name) == "WEIGHTS_DAMAGED"
    save_file(state, tmp_path / "whole.safetensors")
    data = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(data[: len(data) // 2])
    assert code_of(tmp_path / "half.safetensors") == "WEIGHTS_DAMAGED"
    torch.save({"epoch": 3}, tmp_path / "numbers.pt")
    assert code_of(tmp_path / "numbers.pt") == "WEIGHTS_NO_TENSORS"
    torch.save({"some.other.weight": torch.zeros(2)}, tmp_path / "other.pt")
    assert code_of(tmp_path / "other.pt") == "WEIGHTS_UNKNOWN"


def test_wrong_contents_are_named(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(
        {k: v for k, v in state.items() if k != "decoder.fc_out.bias"}, tmp_path / "missing.safetensors"
    )
    with pytest.raises(InputError, match=r"decoder\.fc_out\.bias") as caught:
        load_network(tmp_path / "missing.safetensors")
    assert caught.value.code == "WEIGHTS_MISMATCH"
    broken = dict(state)
    broken["decoder.fc_p.bias"] = torch.full((16,), float("nan"))
    save_file(broken, tmp_path / "nan.safetensors")
    with pytest.raises(InputError, match=r"decoder\.fc_p\.bias") as caught:
        load_network(tmp_path / "nan.safetensors")
    assert caught.value.code == "WEIGHTS_NOT_FINITE"
    save_file(state | {"extra.weight": torch.zeros(3)}, tmp_path / "extra.safetensors")
    assert code_of(tmp_path / "extra.safetensors") == "WEIGHTS_MISMATCH"
    save_file(state | {"encoder.fc_c.bias": torch.tensor(0.0)}, tmp_path / "zero_dim.safetensors")
    assert code_of(tmp_path / "zero_dim.safetensors") == "WEIGHTS_MISMATCH"
