# SPDX-License-Identifier: GPL-3.0-or-later
"""A matting model of the artist: with a stand-in for the library the arithmetic, and what is said where it or the model fails."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from maquette.core.errors import InputError, MissingError
from maquette.core.images.matting import MEAN, SPREAD, matted

RED = np.zeros((40, 60, 3), np.float32)
RED[10:30, 20:50, 0] = 1.0


class RedIsObject:
    """A model of 20 x 30 pixels that answers how red a pixel is, as logits."""

    def __init__(self, path: str, providers: list[str]) -> None:
        if Path(path).read_bytes() != b"model":
            raise RuntimeError("no protobuf")

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="input.1", shape=["batch", 3, 20, 30])]

    def run(self, outputs: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        picture = given["input.1"]
        assert picture.shape == (1, 3, 20, 30)
        assert picture.dtype == np.float32
        red = picture[:, :1] * SPREAD[0] + MEAN[0]
        return [12.0 * (red - 0.5), np.zeros(3)]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=RedIsObject))
    (tmp_path / "mine.onnx").write_bytes(b"model")
    return tmp_path / "mine.onnx"


def test_alpha_lies_where_the_object_is(model: Path) -> None:
    alpha = matted(model, RED)
    assert (alpha.shape, alpha.dtype) == ((40, 60), np.float32)
    assert ((alpha > 0.5) == (RED[..., 0] > 0.5)).mean() > 0.97
    assert alpha[20, 35] == pytest.approx(1 / (1 + np.exp(-6)), abs=1e-3)


def test_what_is_no_model_is_told(model: Path) -> None:
    model.write_bytes(b"something else")
    with pytest.raises(InputError) as caught:
        matted(model, RED)
    assert caught.value.code == "MATTING_UNREADABLE"
    with pytest.raises(InputError) as gone:
        matted(model.with_name("gone.onnx"), RED)
    assert gone.value.code == "NOT_FOUND"


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is not None, reason="onnxruntime is there")
def test_without_the_library_the_way_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        matted(tmp_path / "mine.onnx", RED)
    assert (caught.value.code, caught.value.exit_code) == ("ONNX_MISSING", 4)
    assert "onnxruntime" in caught.value.remedy
