# SPDX-License-Identifier: GPL-3.0-or-later
"""The built zip, and what the stand-in engine answers with."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.blender.ball import ball_cameras, write_ball


@pytest.fixture(scope="session")
def tool(shared):
    """`real-blender`; with REAL_BLENDER_HOME or the default cache holding at least one Blender."""
    path = shared / "tools" / "real-blender"
    if not path.is_file() or os.geteuid() != 0:
        pytest.skip("needs the real-blender tool, and root")
    return path


@pytest.fixture(scope="session", params=["5.2", "4.3"])
def version(request, tool):
    """Each Blender that is installed."""
    where = subprocess.run(
        [tool, "where", request.param], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(where, ".ready").exists():
        pytest.skip(f"Blender {request.param} is not installed: {tool.name} install {request.param}")
    return request.param


@pytest.fixture(scope="session")
def archive(tool, root, tmp_path_factory):
    """The extension's zip, made by a real Blender."""
    made = os.environ.get("MAQUETTE_TEST_ZIP")  # e.g. what `make build` left in dist/
    if made:
        return Path(made)
    out = tmp_path_factory.mktemp("zip")
    command = [
        tool,
        "run",
        "5.2",
        "--command",
        "extension",
        "build",
        "--source-dir",
        root,
        "--output-dir",
        out,
    ]
    subprocess.run(command, capture_output=True, check=True, timeout=600)
    return next(out.glob("maquette-*.zip"))


@pytest.fixture
def stage_folder(tmp_path):
    """Photos of the painted ball, and the Result folder that the stand-in engine hands back."""

    def core(name):
        return importlib.import_module(f"maquette.{name}")

    write_ball(tmp_path / "result", core)
    (tmp_path / "photos").mkdir()
    for camera in ball_cameras(core("core.types")):
        name = f"{Path(camera.name).stem}.png"
        shutil.copy(tmp_path / "result" / "views" / name, tmp_path / "photos" / name)
    return tmp_path
