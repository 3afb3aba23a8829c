# SPDX-License-Identifier: GPL-3.0-or-later
"""Models and the engine's check from Blender's side: terms first, pause, resume, cancel, files of the artist, words."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import bpy
import pytest

from tests.blender.test_models_verb import safetensors

NERF = {"pts_linears.0.weight": [8, 63], "views_linears.0.weight": [4, 35]}


@pytest.fixture
def data(module, monkeypatch, tmp_path):
    """An empty data folder of its own."""
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    models = module("operators.models")
    models.look_again()
    yield tmp_path / "data"
    module("operators.tasks").stop_all()
    monkeypatch.undo()
    models.look_again()


def until(condition, seconds=10):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_terms_are_told_before_a_download(scene, module):
    cards, models = module("core.weights.cards"), module("operators.models")
    card, model = cards.find_model("triposr")
    assert list(models.facts(card, model)) == [
        "1,677 MB to download, about 3.2 GB of memory to run",
        "Licence: MIT",
        "Commercial use: allowed",
        "Territory: none stated",
    ]
    for card in cards.all_cards():  # whatever is offered says all of it
        for model in card.models:
            told = " ".join(models.facts(card, model))
            assert card.licence in told and card.territory in told and "Commercial use" in told
    assert models.known_models()[0].task.startswith("one picture")


def test_without_online_access_the_button_says_why(scene):
    if bpy.app.online_access:
        pytest.skip("online access is on")
    with pytest.raises(RuntimeError, match=r"Allow Online Access .* Use Local File"):
        bpy.ops.maquette.download_model(model="triposr")


@pytest.fixture
def line(module, monkeypatch):
    """`models.store.download_model` replaced by a line that drips; what was asked for."""
    models, store = module("operators.models"), module("core.weights.store")
    asked = []

    def drip(name, progress, online):
        asked.append((name, online))
        part = store.store() / ".incoming" / name / "model.ckpt.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        with progress.stage("model.ckpt"):
            while True:
                with part.open("ab") as file:
                    file.write(bytes(1000))
                progress.update(0.5, f"{part.stat().st_size} bytes")
                time.sleep(0.01)

    monkeypatch.setattr(models, "store", _Replaced(store, download_model=drip))
    return asked


class _Replaced:
    """A module with some of its names replaced."""

    def __init__(self, module, **names):
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name):
        return getattr(self._module, name)


def test_pause_resume_and_cancel(data, line, scene, module):
    """Blender is not held up; a pause keeps what has arrived, a cancel does not."""
    models, tasks = module("operators.models"), module("operators.tasks")
    kind = models.download_kind("triposr")

    def begin():
        work = lambda progress: models.store.download_model("triposr", progress, True)  # noqa: E731
        return tasks.start("TripoSR", work, lambda model: None, kind, models._ended)

    began = time.monotonic()
    task = begin()
    assert time.monotonic() - began < 0.5  # on a busy machine too
    until(lambda: tasks.poll() and task.note)
    assert tasks.running(kind) is task and task.progress == 0.5
    began = time.monotonic()
    assert bpy.ops.maquette.stop_download(model="triposr") == {"FINISHED"}
    until(lambda: tasks.poll() and not tasks.tasks())
    assert time.monotonic() - began < 2
    arrived = models.shelf().begun["triposr"]
    assert arrived > 0 and "triposr" not in models.shelf().there
    task = begin()
    until(lambda: tasks.poll() and task.note and int(task.note.split()[0]) > arrived)
    assert bpy.ops.maquette.remove_model(model="triposr") == {"FINISHED"}
    assert models.shelf().begun == {} and tasks.tasks() == []


def test_a_file_of_the_artist_is_recognised(data, scene, module, tmp_path):
    models = module("operators.models")
    safetensors(tmp_path / "mine.safetensors", NERF)
    assert bpy.ops.maquette.add_model(filepath=str(tmp_path / "mine.safetensors")) == {"FINISHED"}
    assert models.shelf().there["mine"].layout == "nerf"
    safetensors(tmp_path / "other.safetensors", {"cat": [1]})
    with pytest.raises(RuntimeError, match=r"other\.safetensors"):
        bpy.ops.maquette.add_model(filepath=str(tmp_path / "other.safetensors"))
    with pytest.raises(RuntimeError):
        bpy.ops.maquette.add_model(filepath=str(tmp_path / "none.safetensors"))
    bpy.ops.maquette.use_model(model="mine")
    assert scene.maquette.mesh.model == "mine"
    assert bpy.ops.maquette.remove_model(model="mine") == {"FINISHED"}
    assert models.shelf().there == {}
    with pytest.raises(RuntimeError, match="mine"):
        bpy.ops.maquette.remove_model(model="mine")


def test_the_check_in_words(module, monkeypatch, scene, tmp_path):
    check = module("operators.check_engine")
    found = {
        "python": "3.11.7", "threads": 7, "libraries": {"torch": "2.13.0", "numpy": "2.0"}, "missing": {},
        "devices": ["cpu", "cuda:0 NVIDIA H200"], "graphics_free_bytes": {"cuda:0": 130 << 30},
        "memory_bytes": {"total": 64 << 30, "free": 2 << 30},
    }  # fmt: skip
    assert check.in_words(found) == [
        ("CHECKMARK", "Python 3.11.7, torch 2.13.0, 2 libraries"),
        ("CHECKMARK", "Computes on NVIDIA H200, 130.0 GB free"),
        ("ERROR", "Memory: 2.0 of 64.0 GB free"),
    ]
    bare = {**found, "devices": ["cpu"], "missing": {"trimesh": "No module"}, "memory_bytes": {}}
    assert check.in_words(bare)[1:] == [
        ("CANCEL", "Missing: trimesh. Press Set Up Engine again."),
        ("INFO", "Computes on the processor with 7 threads"),
    ]
    monkeypatch.setattr(check.doctor, "examine", lambda python, is_cancelled: found)
    python = tmp_path / "python"
    python.write_text("")
    monkeypatch.setenv("MAQUETTE_ENGINE_PYTHON", str(python))
    module("operators.engine").look_again()
    assert bpy.ops.maquette.check_engine() == {"FINISHED"}
    assert check.findings() == check.in_words(found)
    errors = module("core.errors")

    def broken(python, is_cancelled):
        raise errors.FailedError("ENGINE_BROKEN", "It does not answer.", "Set it up again.")

    monkeypatch.setattr(check.doctor, "examine", broken)
    with pytest.raises(RuntimeError, match=r"It does not answer. Set it up again."):
        bpy.ops.maquette.check_engine()
    monkeypatch.undo()
    module("operators.engine").look_again()


def test_a_fault_in_a_task_is_told_and_dismissed(scene, module):
    tasks = module("operators.tasks")
    task = tasks.start("broken", lambda progress: 1 / 0, lambda answer: None, "test")
    until(lambda: tasks.poll() or task.over)
    assert task.error.code == "CRASH" and "division by zero" in task.error.message and tasks.tasks() == [task]
    assert bpy.ops.maquette.dismiss_job(job=task.id) == {"FINISHED"}
    assert tasks.tasks() == []


def test_rendering_gives_the_gpu_back(scene, module, monkeypatch):
    """A render by its handler, a rendered viewport by what `_changed` finds; the engine is asked, not ended."""
    jobs, viewport = module("operators.jobs"), module("operators.viewport_render")
    asked = []
    monkeypatch.setattr(jobs, "_registry", type("R", (), {"release": lambda self: asked.append(1)})())
    jobs._on_render(scene)
    assert len(asked) == 1
    monkeypatch.setattr(viewport, "cycles_is_drawing", lambda: True)
    viewport._changed()
    assert len(asked) == 2
    monkeypatch.undo()
    area = bpy.context.window_manager.windows[0].screen.areas[0]
    kind, area.type = area.type, "VIEW_3D"
    shading = area.spaces.active.shading
    shading.type = "SOLID"
    assert not viewport.cycles_is_drawing()
    import addon_utils

    addon_utils.enable("cycles")
    scene.render.engine = "CYCLES"
    shading.type = "RENDERED"
    assert viewport.cycles_is_drawing()
    shading.type = "SOLID"
    area.type = kind


def test_cards_without_surprises(module):
    """Names in the panel are those of the cards; a card's model has a size or says that it has none."""
    cards, models = module("core.weights.cards"), module("operators.models")
    card = cards.all_cards()[0]
    model = dataclasses.replace(card.models[0], files=(cards.ModelFile("a.pth"),))
    assert next(models.facts(dataclasses.replace(card, memory_gb=0.0), model)) == "Size not known"
    assert Path(cards.FOLDER).is_dir()
