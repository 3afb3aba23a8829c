# SPDX-License-Identifier: GPL-3.0-or-later
"""Previews of one picture: a row per model and seed, a model that fails left out, and the seed means the same in `mesh`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from maquette.core import cli
from maquette.core.errors import FailedError, InputError, MissingError
from maquette.core.jobs.execution import execute
from maquette.core.jobs.request import Request
from maquette.core.models.lrm.object_lrm import FILL, ObjectLRM
from maquette.core.models.lrm.one_picture import framing_of, reconstruct
from maquette.core.models.lrm.triposr import LAYOUT, TripoSR
from maquette.core.pipelines import PIPELINES
from maquette.core.pipelines.candidates import CELL
from maquette.core.progress import Progress
from maquette.core.weights import networks
from PIL import Image
from safetensors.torch import save_file

from tests.core.pipelines.small_lrm import TINY_TRIPOSR, ellipse


@pytest.fixture
def empty_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TripoSR file whose field is empty everywhere: density exp(-1), far below its level of 25."""
    monkeypatch.setattr(networks, "TRIPOSR", TINY_TRIPOSR)
    shapes = LAYOUT.public_shapes(TripoSR(TINY_TRIPOSR))
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "empty.safetensors")
    return tmp_path / "empty.safetensors"


def candidates(picture: Path, out: Path, **settings: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """scene.json and the messages."""
    told: list[dict[str, Any]] = []
    execute(Request("candidates", (str(picture),), settings, str(out)), Progress(told.append), PIPELINES)
    return json.loads((out / "scene.json").read_text()), told


def test_four_seeds_of_the_only_model(tiny: Path, picture: Path, tmp_path: Path) -> None:
    scene, told = candidates(picture, tmp_path / "out", seed=3)
    rows = scene["metrics"]["candidates"]
    assert [(row["model"], row["seed"]) for row in rows] == [("object_lrm", seed) for seed in (3, 4, 5, 6)]
    assert all(row["licence"] == "CC0-1.0" and row["model_camera_iou"] > 0.6 for row in rows)
    strips = [np.asarray(Image.open(tmp_path / "out" / row["preview"])).astype(int) for row in rows]
    assert all(strip.shape == (CELL, 3 * CELL, 3) for strip in strips)
    assert all(np.abs(strip - strips[0]).max() > 20 for strip in strips[1:])  # seeds differ
    assert len([message for message in told if message["type"] == "preview"]) == 4
    sheet = np.asarray(Image.open(tmp_path / "out" / "candidates.png")).astype(int)
    assert sheet.shape == (4 * CELL, 4 * CELL, 3)
    # In the first view the object is where the picture has it: rows of the 400 x 320 picture stand in the middle.
    solid = np.abs(strips[0][:, :CELL] - 69).max(2) > 3
    rows_of, columns = np.nonzero(solid)
    scale = CELL / 400
    assert columns.mean() == pytest.approx(220 * scale, abs=6)
    assert rows_of.mean() == pytest.approx(140 * scale + (CELL - 320 * scale) / 2, abs=6)
    assert not (tmp_path / "out" / "mesh.npz").exists()


def test_a_model_without_a_surface_is_left_out_with_a_word(
    tiny: Path, empty_model: Path, picture: Path, tmp_path: Path
) -> None:
    scene, _ = candidates(picture, tmp_path / "out", models=[str(empty_model), "object_lrm"], seeds=1)
    assert [row["model"] for row in scene["metrics"]["candidates"]] == ["object_lrm"]
    assert any("empty, seed 0" in text and "no surface" in text for text in scene["warnings"])
    with pytest.raises(FailedError) as caught:
        candidates(picture, tmp_path / "none", models=[str(empty_model)], seeds=1)
    assert caught.value.code == "NO_SURFACE"
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_tried_is_told(no_models: Path, picture: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        candidates(picture, tmp_path / "out")
    assert caught.value.code == "MODEL_MISSING"


def test_one_picture_only(tiny: Path, picture: Path, tmp_path: Path) -> None:
    Image.fromarray(ellipse()).save(tmp_path / "other.png")
    request = Request("candidates", (str(picture), str(tmp_path / "other.png")), {}, str(tmp_path / "out"))
    with pytest.raises(InputError) as caught:
        execute(request, Progress(), PIPELINES)
    assert caught.value.code == "ONE_PICTURE"


def test_a_seed_is_a_framing(weights: dict[str, torch.Tensor]) -> None:
    from tests.core.pipelines.small_lrm import TINY

    assert framing_of(0) == 1.0
    assert framing_of(1) == framing_of(1) != framing_of(2)
    assert all(0.88 <= framing_of(seed) <= 1.06 and FILL * framing_of(seed) < 0.9 for seed in range(50))
    network = ObjectLRM.from_tensors(weights, TINY)
    usual, larger = (reconstruct(network, ellipse(), "thing.png", framing=size) for size in (1.0, 1.05))
    assert larger.camera.cx == pytest.approx(usual.camera.cx, abs=1)
    assert not torch.equal(larger.field.layers, usual.field.layers)


def test_the_command_line(tiny: Path, picture: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = [
        "candidates",
        str(picture),
        "--out",
        str(tmp_path / "out"),
        "--seeds",
        "1",
        "--report",
        str(report),
    ]
    assert cli.main(arguments) == 0
    told = json.loads(report.read_text())
    assert (told["method"], len(told["metrics"]["candidates"])) == ("candidates", 1)
    assert cli.main([*arguments, "--seeds", "99"]) == 2
    assert json.loads(report.read_text())["error"]["code"] == "BAD_SETTING"
