# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on loaded into a `bpy` wheel as Blender loads it (`bl_ext.user_default.maquette`), with a user folder of its own."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import pytest

# Both have to be set before bpy is imported for the first time.
_USER = tempfile.TemporaryDirectory(prefix="maquette-test-")
os.environ["BLENDER_USER_RESOURCES"] = _USER.name
os.environ["MAQUETTE_DATA"] = str(Path(_USER.name) / "data")

import bpy  # noqa: E402
import numpy as np  # noqa: E402

NAME = "bl_ext.user_default.maquette"


@pytest.fixture(scope="session")
def addon(root):
    """The registered package; unregistered at the end because leftovers crash bpy 4.2 and hang 4.5 at exit."""
    importlib.import_module("bl_ext.user_default")
    spec = importlib.util.spec_from_file_location(
        NAME, root / "__init__.py", submodule_search_locations=[str(root)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)
    bpy.context.preferences.addons.new().module = NAME
    package.register()
    yield package
    package.unregister()


@pytest.fixture
def module(addon):
    """`module("operators.results")` -> that module of the add-on."""
    return lambda name: importlib.import_module(f"{NAME}.{name}")


@pytest.fixture
def scene(addon):
    """An empty file's scene."""
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    return bpy.context.scene


@pytest.fixture(scope="session")
def ball_result(addon, tmp_path_factory):
    """The painted ball's Result folder; tests that change it copy it first."""
    from tests.blender.ball import write_ball

    return write_ball(
        tmp_path_factory.mktemp("ball") / "result", lambda name: importlib.import_module(f"{NAME}.{name}")
    )


@pytest.fixture
def engine(root, module, monkeypatch, ball_result):
    """A stand-in engine that finishes within a second; everything it started ends with the test."""
    python = root / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.is_file():
        pytest.skip("needs the engine's packages: make setup")
    jobs, runner = module("operators.jobs"), module("core.jobs.runner")
    monkeypatch.setenv("MAQUETTE_ENGINE_PYTHON", str(python))
    monkeypatch.setenv("MAQUETTE_TEST_SECONDS", "0.3")
    monkeypatch.setenv("MAQUETTE_TEST_RESULT", str(ball_result))
    script = Path(__file__).with_name("stand_in_engine.py")
    monkeypatch.setattr(jobs, "make_worker", functools.partial(runner.Worker, script=script))
    module("operators.engine").look_again()
    yield jobs
    jobs.unregister()
    jobs.register()


@pytest.fixture
def photos(tmp_path):
    from tests.blender.ball import write_png

    def write(*names):
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        for name in names:
            write_png(folder / name, np.full((4, 4, 3), 0.5))
        return {"directory": str(folder), "files": [{"name": name} for name in names]}

    return write
