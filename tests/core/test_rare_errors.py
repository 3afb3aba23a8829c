# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that seldom happen, each brought about once: their code, and a message that names what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.cameras.orbit import Orbit
from maquette.core.errors import FailedError, InputError, MaquetteError, MissingError
from maquette.core.fit.bounds import hull_box
from maquette.core.images import load
from maquette.core.jobs import base_python, environment
from maquette.core.pipelines.field_to_result import pick_device
from maquette.core.types import Camera, View
from maquette.core.weights import networks, store
from PIL import Image
from safetensors.torch import save_file


def code_of(error: pytest.ExceptionInfo[MaquetteError]) -> str:
    assert error.value.message and error.value.remedy
    return error.value.code


def test_a_point_behind_the_camera() -> None:
    camera = Camera("a", 64, 48, 60.0, 60.0, 32.0, 24.0, np.eye(4))
    with pytest.raises(InputError) as error:
        Orbit.of(camera, np.array([0.0, 0.0, -2.0]), 1.0)
    assert code_of(error) == "BEHIND_CAMERA"


def test_a_picture_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "large.png")
    monkeypatch.setattr(load, "MAX_PIXELS", 1000)
    with pytest.raises(InputError, match=r"large\.png") as error:
        load.open_photos([tmp_path / "large.png"])
    assert code_of(error) == "IMAGE_TOO_LARGE"


def test_masks_without_a_place_in_common() -> None:
    """Two cameras at one spot, one mask all of the picture and the other nothing of it."""
    pose = np.eye(4)
    pose[2, 3] = -3.0
    camera = Camera("a", 32, 32, 32.0, 32.0, 16.0, 16.0, pose)
    rgb = np.zeros((32, 32, 3), np.float32)
    views = [View(camera, rgb, np.full((32, 32), value, np.float32)) for value in (1.0, 0.0)]
    with pytest.raises(InputError) as error:
        hull_box(views, np.array([[-1.0, -1, -1], [1, 1, 1]]))
    assert code_of(error) == "MASKS_DISAGREE"


def test_a_device_that_is_not_there() -> None:
    name = "cuda" if not torch.cuda.is_available() else "mps"
    with pytest.raises(MissingError, match=name) as error:
        pick_device(name)
    assert code_of(error) == "NO_DEVICE"


def test_no_python_to_make_an_engine_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_python, "find_base_pythons", list)
    with pytest.raises(MissingError) as error:
        base_python.choose_base_python()
    assert code_of(error) == "NO_BASE_PYTHON"


def test_words_of_pip_that_say_nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = environment._Setup.__new__(environment._Setup)
    setup.lines, setup.wheels = ["something odd happened", ""], None
    error = setup._failure()
    assert error.code == "ENGINE_SETUP_FAILED" and "something odd happened" in error.message


def test_a_network_that_only_a_later_version_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"pts_linears.0.weight": (8, 63), "views_linears.0.weight": (4, 35)}
    save_file({name: torch.zeros(shape) for name, shape in names.items()}, tmp_path / "a.safetensors")
    monkeypatch.setattr(networks, "NETWORKS", {})
    with pytest.raises(MissingError) as error:
        networks.load_network(tmp_path / "a.safetensors")
    assert code_of(error) == "NETWORK_MISSING"


def test_a_model_that_cannot_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path))
    (tmp_path / "weights" / "mine").mkdir(parents=True)

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(FailedError, match="Permission denied") as error:
        store.remove_model("mine")
    assert code_of(error) == "MODEL_NOT_REMOVED"
