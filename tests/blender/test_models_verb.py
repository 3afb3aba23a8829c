# SPDX-License-Identifier: GPL-3.0-or-later
"""`models` in a Blender without a window: no engine is needed, and Blender's online access decides about downloads."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys

import pytest


@pytest.fixture
def models(root, tmp_path):
    """Runs the verb in a process of its own; returns (exit status, report, standard output)."""

    def run(*arguments):
        report = tmp_path / "report.json"
        command = [
            sys.executable,
            root / "operators" / "headless.py",
            "models",
            *arguments,
            "--report",
            report,
        ]
        environment = {**os.environ, "MAQUETTE_DATA": str(tmp_path / "data"), "MAQUETTE_ENGINE_PYTHON": ""}
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, timeout=120, check=False, env=environment
        )
        return done.returncode, json.loads(report.read_text()), done.stdout

    return run


def safetensors(path, shapes):
    """A file of zeros, without any library."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


def test_list_add_and_remove_without_an_engine(models, tmp_path):
    code, report, shown = models("list")
    assert code == 0 and len(report["metrics"]["models"]) > 60
    assert "TripoSR: one picture to a textured mesh; commercial use allowed" in shown
    safetensors(
        tmp_path / "mine.safetensors", {"pts_linears.0.weight": [8, 63], "views_linears.0.weight": [4, 35]}
    )
    code, report, shown = models("add", tmp_path / "mine.safetensors")
    assert code == 0 and report["model"]["layout"] == "nerf"
    assert (tmp_path / "data" / "weights" / "mine" / "model.json").is_file()
    assert models("remove", "mine")[0] == 0
    assert models("list")[1]["metrics"]["installed"] == []


def test_online_access_that_is_off_forbids_the_download(models):
    code, report, _ = models("download", "triposr")
    assert (code, report["error"]["code"]) == (4, "ONLINE_ACCESS_OFF")
