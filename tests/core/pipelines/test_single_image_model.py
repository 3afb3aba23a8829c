# SPDX-License-Identifier: GPL-3.0-or-later
"""Which model takes a single picture: named, installed or bundled; and one that is loaded from its published layout."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from maquette.core.errors import InputError, MissingError
from maquette.core.jobs import warm
from maquette.core.models.lrm.triposr import LAYOUT, TripoSR, TripoSRConfig
from maquette.core.models.parts.transformer import VisionTransformerConfig
from maquette.core.pipelines import single_image_model
from maquette.core.pipelines.single_image_model import find_single_image_model
from maquette.core.progress import Progress
from maquette.core.weights import networks, store
from safetensors.torch import save_file

TINY = TripoSRConfig(
    image=16, encoder=VisionTransformerConfig(16, 1, 2, 32, 8, 16, pooler=True), plane=4, width=32, heads=2,
    head_width=16, layers=1, features=4, hidden=8, hidden_layers=2,
)  # fmt: skip


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No models; returns where the bundled one would lie."""
    monkeypatch.setattr(single_image_model, "BUNDLED", tmp_path / "bundled.safetensors")
    monkeypatch.setattr(networks, "TRIPOSR", TINY)
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    warm.release()
    return tmp_path / "bundled.safetensors"


def triposr(path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    shapes = LAYOUT.public_shapes(TripoSR(TINY))
    save_file({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, path)
    return path


def test_nothing_is_there() -> None:
    for name in ("", "object_lrm"):
        with pytest.raises(MissingError) as caught:
            find_single_image_model(name)
        assert (caught.value.code, caught.value.exit_code) == ("MODEL_MISSING", 4)
    with pytest.raises(MissingError) as caught:
        find_single_image_model("triposr")
    assert caught.value.code == "MODEL_NOT_INSTALLED"


def test_the_bundled_one_serves_until_the_artist_adds_one(empty: Path, tmp_path: Path) -> None:
    empty.write_bytes(b"weights")
    assert find_single_image_model().layout == "object_lrm"
    store.add_model(triposr(tmp_path / "mine.safetensors"), Progress())
    found = find_single_image_model()
    assert (found.name, found.layout, found.card["licence"]) == ("mine", "triposr", "MIT")
    assert find_single_image_model("object_lrm").layout == "object_lrm"


def test_a_file_is_loaded_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    model = find_single_image_model(str(triposr(tmp_path / "mine.safetensors")))
    device = torch.device("cpu")
    network = model.network(device)
    assert isinstance(network, TripoSR)
    assert not any(weight.requires_grad for weight in network.parameters())
    assert not network.training
    assert model.network(device) is network
    triposr(tmp_path / "mine.safetensors")
    assert model.network(device) is not network
    model.path.unlink()
    with pytest.raises(MissingError, match="not there"):
        model.network(device)


@pytest.mark.parametrize("there", [True, False])
def test_large_transformers_are_bfloat16_where_the_processor_has_it(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": there})
    network = find_single_image_model(str(triposr(tmp_path / "mine.safetensors"))).network(
        torch.device("cpu")
    )
    assert network.tokens.dtype == (torch.bfloat16 if there else torch.float32)
    assert network.decoder.layers[0].weight.dtype == torch.float32  # the field's own network
    assert network.field(torch.rand(3, 16, 16)).planes.dtype == torch.float32


def test_a_model_for_something_else_is_refused() -> None:
    folder = store.store() / "shapes"
    folder.mkdir(parents=True)
    record = store.InstalledModel("shapes", "onet", "model.pt", {}, "here")
    (folder / store.RECORD).write_text(json.dumps(asdict(record)))
    with pytest.raises(InputError) as caught:
        find_single_image_model("shapes")
    assert caught.value.code == "MODEL_OTHER_TASK"
    with pytest.raises(MissingError):
        find_single_image_model()
