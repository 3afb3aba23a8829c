# SPDX-License-Identifier: GPL-3.0-or-later
"""Models in the data folder, through the command line: reports, exit codes, and nothing half there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from maquette.core import cli
from maquette.core.errors import Cancelled
from maquette.core.models.onet.decoders import DecoderConfig
from maquette.core.models.onet.network import OccupancyNetwork, OnetConfig
from maquette.core.progress import Progress
from maquette.core.weights import cards, lock, store
from maquette.core.weights.networks import load_network
from safetensors.torch import save_file

from .line_server import served

NAME = "onet_img2mesh_3-f786b04a.pt"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


@pytest.fixture
def weights(place: Path) -> Path:
    """A small Occupancy Network under a published file's name."""
    torch.manual_seed(0)
    network = OccupancyNetwork(OnetConfig(DecoderConfig("cbatchnorm", 16, 8), "pointnet_resnet", 12))
    torch.save({"model": network.state_dict(), "epoch_it": 3}, place / NAME)
    return place / NAME


def run(place: Path, *arguments: str | Path, online: bool = True) -> dict[str, Any]:
    report = place / "report.json"
    report.unlink(missing_ok=True)
    code = cli.main(["models", *map(str, arguments), "--report", str(report)], online=online)
    content = json.loads(report.read_text(encoding="utf-8"))
    assert content["exit_code"] == code
    return content


def test_add_recognises_keeps_and_names_a_file(
    place: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(place, "add", weights)
    folder = place / "data" / "weights" / "onet-image"
    assert (report["status"], report["outputs"]) == ("done", {"folder": str(folder)})
    assert report["model"]["layout"] == "onet" and "MIT" in report["model"]["licence"]
    assert capsys.readouterr().out == f"{folder}\n"
    assert {path.name for path in folder.iterdir()} == {NAME, "model.json"}
    assert weights.exists() and not list((folder.parent / ".incoming").iterdir())
    model = store.find_installed("onet-image")
    assert load_network(model.path)[0] == "onet"
    assert run(place, "verify")["metrics"]["models"] == ["onet-image"]
    assert "onet-image                   there" in (run(place, "list") and capsys.readouterr().out)
    report = run(place, "add", weights)
    assert (report["exit_code"], report["error"]["code"]) == (2, "MODEL_NAME_TAKEN")
    assert run(place, "add", weights, "--name", "mine")["metrics"]["layout"] == "onet"
    freed = run(place, "remove", "onet-image")["metrics"]["bytes_freed"]
    assert freed > weights.stat().st_size and not folder.exists()
    assert run(place, "list")["metrics"]["installed"] == ["mine"]


def test_two_downloads_of_one_model_fetch_it_once(
    place: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = weights.read_bytes()
    card, model = cards.find_model("onet-image")
    with served(content, "good", "good") as server:
        local = replace(model, files=(replace(model.files[0], url=server.url, size=0, sha256="", size_mb=0),))
        monkeypatch.setattr(store, "find_model", lambda _: (card, local))
        stages: list[dict[str, Any]] = []
        with ThreadPoolExecutor() as pool, lock.model_lock("onet-image", Progress()):
            jobs = [
                pool.submit(store.download_model, "onet-image", Progress(stages.append), True)
                for _ in range(2)
            ]
            while [m.get("stage") for m in stages if m["type"] == "stage"].count(lock.WAITING) < 2:
                time.sleep(0.01)
            assert server.requests == []
            lock_held = lock.model_lock("onet-image", Progress(None, lambda: True))
            with pytest.raises(Cancelled), lock_held:
                pass
        assert [job.result(10).name for job in jobs] == ["onet-image"] * 2
        assert len(server.requests) == 1
    assert store.find_installed("onet-image").path.read_bytes() == content


def test_a_reader_that_leaves_early_is_no_failure(place: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "maquette", "models", "list", "--report", str(place / "report.json")]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((place / "report.json").read_text(encoding="utf-8"))["status"] == "done"


def test_verify_tells_a_changed_file(place: Path, weights: Path) -> None:
    run(place, "add", weights)
    path = store.find_installed("onet-image").path
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    report = run(place, "verify")
    assert (report["exit_code"], report["error"]["code"]) == (2, "MODEL_DAMAGED")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (["show", "nothing"], 2, "MODEL_UNKNOWN"),
        (["download", "nothing"], 2, "MODEL_UNKNOWN"),
        (["download", "giraffe"], 2, "MODEL_UNKNOWN"),
        (["download", "eg3d-cats"], 4, "MODEL_FILE_WANTED"),
        (["remove", "triposr"], 4, "MODEL_NOT_INSTALLED"),
        (["remove", "../weights"], 4, "MODEL_NOT_INSTALLED"),
        (["verify", "triposr"], 4, "MODEL_NOT_INSTALLED"),
        (["add", "{p}/absent.pt"], 4, "WEIGHTS_MISSING"),
        (["add", "{p}"], 2, "WEIGHTS_IS_FOLDER"),
        (["add", "{p}/photo.jpg"], 2, "WEIGHTS_FORMAT"),
        (["add", "{p}/" + NAME, "--name", "../x"], 2, "BAD_SETTING"),
        (["paint"], 2, "BAD_ARGUMENT"),
        (["add"], 2, "BAD_ARGUMENT"),
        ([], 2, "BAD_ARGUMENT"),
    ],
)
def test_bad_arguments(place: Path, weights: Path, arguments: list[str], exit_code: int, code: str) -> None:
    (place / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 not weights")
    report = run(place, *(argument.format(p=place) for argument in arguments))
    assert (report["exit_code"], report["error"]["code"]) == (exit_code, code)
    assert report["error"]["remedy"]
    assert not list((place / "data").glob("weights/*/model.json"))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets a card point at a local server."""

    def point(url: str, **known: Any) -> None:
        found, model = cards.find_model("onet-image")
        file = replace(model.files[0], url=url, **known)
        local = replace(found, models=(replace(model, files=(file,)),))
        monkeypatch.setattr(cards, "all_cards", lambda: (local,))
        monkeypatch.setattr(store, "all_cards", lambda: (local,))

    return point


def test_a_download_through_the_command_line(place: Path, weights: Path, card: Any) -> None:
    with served(weights.read_bytes(), "drops", "good") as server:
        card(server.url)
        report = run(place, "download", "onet-image")
        assert len(server.requests) == 2
        assert (report["status"], report["model"]["layout"]) == ("done", "onet")
        assert "Licence: MIT" in report["warnings"][0] and "differs from the start" in report["warnings"][1]
        assert load_network(store.find_installed("onet-image").path)[0] == "onet"
        assert run(place, "download", "onet-image")["status"] == "done" and len(server.requests) == 2


def test_offline_there_is_no_download(place: Path, weights: Path, card: Any) -> None:
    with served(weights.read_bytes()) as server:
        card(server.url)
        report = run(place, "download", "onet-image", online=False)
        assert (report["exit_code"], report["error"]["code"]) == (4, "ONLINE_ACCESS_OFF")
        assert not server.requests


def test_a_download_that_is_no_model_of_the_card(place: Path, card: Any) -> None:
    save_file({"a.weight": torch.zeros(2)}, place / "other.safetensors")
    with served((place / "other.safetensors").read_bytes()) as server:
        card(server.url)
        report = run(place, "download", "onet-image")
    assert report["error"]["code"] == "WEIGHTS_UNKNOWN"
    assert not (place / "data" / "weights" / ".incoming" / "onet-image").exists()
    assert store.installed_models() == []


def test_a_failed_download_can_be_taken_back(place: Path, weights: Path, card: Any) -> None:
    with served(weights.read_bytes(), "drops", "404") as server:
        card(server.url)
        assert run(place, "download", "onet-image")["error"]["code"] == "DOWNLOAD_NOT_FOUND"
    assert store.installed_models() == []
    assert run(place, "remove", "onet-image")["metrics"]["bytes_freed"] > 0
    assert not (place / "data" / "weights" / ".incoming" / "onet-image").exists()


def test_configuration_files_come_along(place: Path) -> None:
    folder = place / "TripoSR"
    folder.mkdir()
    keys = ("tokenizer.embeddings", "post_processor.upsample.weight", "image_tokenizer.model.x")
    torch.save({key: torch.zeros(2) for key in keys}, folder / "model.ckpt")
    (folder / "config.yaml").write_text("cond_image_size: 512\n")
    (folder / "photo.png").touch()
    model = store.add_model(folder / "model.ckpt", Progress())
    assert (model.name, model.layout, set(model.files)) == (
        "triposr",
        "triposr",
        {"model.ckpt", "config.yaml"},
    )
    assert model.card["commercial"] == "yes"


def test_folders_of_the_diffusers_library(place: Path) -> None:
    keys = {
        "unet": "conv_in.weight",
        "vae": "a",
        "image_encoder": "b",
        "clip_camera_projection": "proj.weight",
    }
    for folder, key in keys.items():
        (place / "z" / folder).mkdir(parents=True)
        for name in ("model.fp16.safetensors", "model.safetensors"):
            save_file({key: torch.zeros(2)}, place / "z" / folder / name)
    model = store.add_model(place / "z", Progress(), "my-zero123")
    assert (model.layout, model.path) == ("zero123", model.folder)
    assert set(model.files) == {f"{folder}/model.safetensors" for folder in keys}
    assert model.card["title"] == "Zero123"


def test_no_engine_is_needed(place: Path, weights: Path) -> None:
    code = (
        "import sys; from maquette.core import cli; code = cli.main(sys.argv[1:]);"
        "print([m for m in ('torch', 'safetensors', 'requests') if m in sys.modules], code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "models", "add", weights], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[] 0"
