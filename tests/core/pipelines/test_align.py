# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `align` from files to a Result folder, and files of geometry as they come."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh
from maquette.core import cli
from maquette.core.cameras import nerf_json
from maquette.core.errors import InputError
from maquette.core.pipelines.scene_file import read_scene
from maquette.core.results import read_result
from PIL import Image

from tests.core.poses.test_alignment import CHAIR, TRUTH, errors, look_at, photograph


@pytest.fixture
def stage(tmp_path):
    """A photo with alpha of a chair, the chair as PLY with colours, and a rough camera."""
    photo, alpha = photograph(CHAIR, TRUTH, (0.5, 0.5, 0.5))
    rgba = np.concatenate([photo, alpha[..., None]], 2)
    Image.fromarray((rgba * 255 + 0.5).astype(np.uint8)).save(tmp_path / "photo.png")
    colours = np.zeros((len(CHAIR.vertices), 3), np.uint8)
    colours[CHAIR.faces.ravel()] = CHAIR.corner_colors.reshape(-1, 3)
    mesh = trimesh.Trimesh(CHAIR.vertices, CHAIR.faces, vertex_colors=colours, process=False)
    mesh.export(tmp_path / "chair.ply")
    nerf_json.write(tmp_path / "rough.json", [look_at((0.8, -3.9, 1.4), focal=360.0)], {})
    return tmp_path


def test_from_files_to_a_result(stage):
    out = stage / "out"
    arguments = [
        "align",
        stage / "photo.png",
        "--geometry",
        stage / "chair.ply",
        "--cameras",
        stage / "rough.json",
    ]
    arguments += ["--out", out, "--report", stage / "report.json"]
    assert cli.main([str(part) for part in arguments]) == 0
    result = read_result(out)
    assert result.method == "align"
    camera = result.cameras[0].source
    degrees, share, pixels = errors(camera)
    assert (degrees < 0.5, share < 0.03, pixels < 0.5) == (True, True, True), (degrees, share, pixels)
    assert camera.grade == "good", camera.reason
    assert (out / result.cameras[0].image).is_file()
    assert np.allclose(
        nerf_json.read(out / "transforms.json")[0][0].cam_to_world, camera.cam_to_world, atol=1e-6
    )
    report = json.loads((stage / "report.json").read_text())
    assert report["metrics"]["reprojection_px"] < 1.0


def test_what_is_missing_is_told(stage):
    report = stage / "report.json"
    common = ["align", str(stage / "photo.png"), "--out", str(stage / "out"), "--report", str(report)]
    assert cli.main(common) == 2
    assert cli.main([*common, "--geometry", str(stage / "nowhere.ply")]) == 2
    assert json.loads(report.read_text())["error"]["code"] == "NOT_FOUND"
    assert cli.main([*common, "--geometry", str(stage / "photo.png")]) == 2
    assert json.loads(report.read_text())["error"]["code"] == "MESH_UNREADABLE"


def test_model_files_keep_colours_and_stand_up(stage):
    """PLY stays as it is; glTF, which is Y up, is turned."""
    ply = read_scene(stage / "chair.ply", stage)
    assert np.allclose(np.sort(ply.vertices, 0), np.sort(CHAIR.vertices, 0), atol=1e-6)
    assert {tuple(c) for c in ply.corner_colors.reshape(-1, 3)} == {
        tuple(c) for c in CHAIR.corner_colors.reshape(-1, 3)
    }
    lying = CHAIR.vertices @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)  # z up -> y up
    trimesh.Trimesh(lying, CHAIR.faces, process=False).export(stage / "chair.glb")
    glb = read_scene(stage / "chair.glb", stage)
    assert np.allclose(
        [glb.vertices.min(0), glb.vertices.max(0)], [CHAIR.vertices.min(0), CHAIR.vertices.max(0)]
    )
    a, b, c = (glb.vertices[glb.faces[:, k]] for k in range(3))
    assert ((np.cross(b - a, c - a)[:, None] * glb.corner_normals).sum(2) > 0).all()
    (stage / "empty.ply").write_text("ply\nformat ascii 1.0\nelement vertex 0\nend_header\n")
    with pytest.raises(InputError) as caught:
        read_scene(stage / "empty.ply", stage)
    assert caught.value.code == "MESH_UNREADABLE"
