# SPDX-License-Identifier: GPL-3.0-or-later
"""Re-Extract: threshold, resolution, box and face budget from the stored field, with no network anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from maquette.core.errors import FailedError, InputError
from maquette.core.jobs import warm
from maquette.core.jobs.execution import execute
from maquette.core.jobs.request import Request
from maquette.core.pipelines import PIPELINES
from maquette.core.progress import Progress
from maquette.core.results import read_mesh, read_result


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loading any model fails; there is none either."""

    def refuse(*_: object) -> None:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(warm, "loaded", refuse)
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))


def extract(source: Path, out: Path, **settings: Any) -> trimesh.Trimesh:
    """The new mesh in the world of the result."""
    values = {"texture_size": 256, "quality": "draft", "resolution": 48} | settings
    execute(Request("extract", (str(source),), values, str(out)), Progress(), PIPELINES)
    world, mesh = read_result(out).world_from_result, read_mesh(out / "mesh.npz")
    return trimesh.Trimesh(mesh.vertices @ world[:3, :3].T + world[:3, 3], mesh.faces, process=False)


def test_threshold_resolution_box_and_budget(ellipsoid_result: Path, tmp_path: Path) -> None:
    before = read_result(ellipsoid_result)
    usual = extract(ellipsoid_result, tmp_path / "usual")
    assert usual.volume > 0
    firmer = extract(ellipsoid_result, tmp_path / "firmer", threshold=3.0)  # denser inside: a smaller body
    assert 0.2 < firmer.volume / usual.volume < 0.97
    finer = extract(ellipsoid_result, tmp_path / "finer", resolution=72)
    assert len(finer.faces) > 2 * len(usual.faces)
    assert finer.volume == pytest.approx(usual.volume, rel=0.02)
    few = extract(ellipsoid_result, tmp_path / "few", face_budget=500)
    assert 300 < len(few.faces) <= 500
    assert few.volume == pytest.approx(usual.volume, rel=0.05)
    lower = extract(ellipsoid_result, tmp_path / "lower", region=[-9, -9, -9, 9, 9, 0.2])  # 0.4 m tall
    assert lower.bounds[1, 2] == pytest.approx(0.2, abs=0.01)
    assert lower.volume == pytest.approx(0.5 * usual.volume, rel=0.15)
    after = read_result(tmp_path / "lower")
    np.testing.assert_array_equal(after.world_from_result, before.world_from_result)
    np.testing.assert_array_equal(after.cameras[0].source.cam_to_world, before.cameras[0].source.cam_to_world)
    assert after.model == before.model
    assert after.metrics["silhouette_iou"] < before.metrics["silhouette_iou"]  # measured anew
    again = extract(tmp_path / "lower", tmp_path / "again")  # the whole field was kept
    assert again.volume == pytest.approx(usual.volume, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "kind", "code"),
    [
        ({"threshold": 1e9}, FailedError, "NO_SURFACE"),
        ({"region": [7, 7, 7, 8, 8, 8]}, InputError, "REGION_OUTSIDE"),
        ({"resolution": 2}, InputError, "BAD_SETTING"),
    ],
)
def test_what_gives_no_mesh_is_told(
    settings: dict[str, Any], kind: type[Exception], code: str, ellipsoid_result: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        extract(ellipsoid_result, tmp_path / "out", **settings)
    assert caught.value.code == code  # type: ignore[attr-defined]
    assert not (tmp_path / "out").exists()


def test_a_field_that_is_gone_or_broken_is_told(ellipsoid_result: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ellipsoid_result, copy)
    for content in (None, b"", b"no field at all, only words" * 9):
        (copy / "field.safetensors").unlink(missing_ok=True)
        if content is not None:
            (copy / "field.safetensors").write_bytes(content)
        with pytest.raises(InputError) as caught:
            extract(copy, tmp_path / "out")
        assert caught.value.code == "FIELD_UNREADABLE"
