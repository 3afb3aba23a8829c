# SPDX-License-Identifier: GPL-3.0-or-later
"""Every panel in every state an artist meets, drawn on paper: nothing raises, names and icons exist, the words are there."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import bpy
import pytest

from tests.blender.ball import write_ball, write_png, write_take
from tests.blender.paper import draw


@pytest.fixture
def panels(module):
    """name -> what it draws now, of all panels that show themselves."""

    def look():
        drawn = {}
        for part in module("panels")._modules():
            for kind in part.CLASSES:
                if issubclass(kind, bpy.types.Panel):
                    paper = draw(kind)
                    if paper is not None:
                        drawn[kind.__name__.removeprefix("MAQUETTE_PT_")] = paper
        return drawn

    return look


@pytest.fixture
def ball(module, scene, tmp_path):
    folder = write_ball(tmp_path / "ball", module, rings=8, texture=32)
    (folder / "masks").mkdir()
    for i in range(3):
        shutil.copy(folder / "views" / f"photo {i}.png", folder / "masks")
    return folder


def test_order_and_place(module):
    """One tab; sub-panels hang on what comes before them."""
    seen = []
    for part in module("panels")._modules():
        for kind in part.CLASSES:
            if not issubclass(kind, bpy.types.Panel):
                continue
            assert (kind.bl_space_type, kind.bl_region_type, kind.bl_category) == (
                "VIEW_3D",
                "UI",
                "Maquette",
            )
            assert getattr(kind, "bl_parent_id", None) in (None, *seen)
            seen.append(getattr(kind, "bl_idname", kind.__name__))
    tops = [f"MAQUETTE_PT_{name}" for name in ("images", "progress", "cameras", "result", "engine")]
    assert [name for name in seen if name in tops] == tops


def test_an_empty_scene(panels, scene, module, monkeypatch, tmp_path):
    drawn = panels()
    assert "result" not in drawn and "progress" not in drawn
    engine = module("operators.engine")
    if engine.engine_status().python is None:
        assert ("maquette.set_up_engine", "Set Up Engine") in drawn["images"].buttons
    there = module("core.jobs.environment").EngineStatus(tmp_path / "python", "private")
    monkeypatch.setattr(engine, "_status", there)
    drawn = panels()
    assert "Drop photos on the viewport, or press" in " ".join(drawn["images"].texts)
    assert ("maquette.set_up_engine", "Set Up Engine") not in drawn["images"].buttons
    assert "quality" in drawn["images"].notes.props
    assert ("maquette.image_to_mesh", "Image to Mesh") in drawn["images"].buttons
    scene.collection.objects.link(bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera")))
    panels()


def test_a_photo_with_what_the_last_result_says_of_it(panels, ball, scene, module, tmp_path):
    for i in (0, 4, 6, 9):
        item = scene.maquette.photos.add()
        item.path = str(tmp_path / f"photo {i}.jpg")
    drawn = panels()["images"]
    assert "Not used yet" in drawn.texts
    assert "maquette.edit_mask" not in dict(drawn.buttons)
    bpy.ops.maquette.import_result(directory=str(ball))
    known = [(item.grade, item.reason, item.has_mask) for item in scene.maquette.photos]
    assert known == [
        ("good", "", True), ("doubtful", "few matches", False), ("failed", "no overlap", False), ("", "", False),
    ]  # fmt: skip
    drawn = panels()["images"]
    assert {"photo 9.jpg", "Camera found", "Masked"} <= set(drawn.texts)
    assert "maquette.edit_mask" in dict(drawn.buttons)
    scene.maquette.active_photo = 1
    assert {"Camera doubtful", "few matches"} <= set(panels()["images"].texts)


def test_edit_mask_of_a_chosen_photo(ball, scene):
    bpy.ops.maquette.import_result(directory=str(ball))
    assert bpy.ops.maquette.edit_mask(photo="photo 1.jpg") == {"FINISHED"}
    assert "Mask photo 1" in bpy.data.images
    with pytest.raises(RuntimeError, match=r"no camera for photo 6.jpg"):
        bpy.ops.maquette.edit_mask(photo="photo 6.jpg")


def test_a_result(panels, ball, scene):
    bpy.ops.maquette.import_result(directory=str(ball))
    mesh = bpy.context.view_layer.objects.active
    drawn = panels()
    assert {"0.970 IoU", "25.5 dB", "One photo could not be used."} <= set(drawn["result"].texts)
    assert "show_invented" in drawn["result"].notes.props
    labels = [label for _, label in drawn["result"].buttons]
    assert labels == [
        "Re-Extract", "Re-Bake", "Decimate", "Quads", "Regenerate", "Save Result", "Import Result", "Mark as Asset"
    ]  # fmt: skip
    assert ("maquette.check_mesh", "Check Mesh") in drawn["mesh_report"].buttons
    assert bpy.ops.maquette.check_mesh() == {"FINISHED"}
    texts = panels()["mesh_report"].texts
    assert texts[texts.index("Watertight") + 1] == "No"
    assert texts[texts.index("Faces") + 1] == "128"
    mesh.data.clear_geometry()  # an edit: the report is of another mesh
    assert "Watertight" not in panels()["mesh_report"].texts
    assert {"photo 3", "0.970", "25.5", "-"} <= set(drawn["camera_errors"].texts)
    assert {"Time", "0:02", "    Fit"} <= set(drawn["origin"].texts)
    mesh.maquette.metrics = json.dumps({})
    panels()


def test_cameras_without_a_mesh(panels, module, scene, tmp_path):
    """What cannot be made of them is grey and says so; the sparse points are no mesh to work on."""
    bpy.ops.maquette.import_result(directory=str(write_take(tmp_path / "take", module, range(3))))
    drawn = panels()
    assert "result" in drawn and "mesh_report" not in drawn
    for name, words in (
        ("re_extract", "This result has no field to make a mesh from"),
        ("regenerate", "This result has cameras only"),
        ("re_bake", "Select a mesh of a result"),
        ("remesh", "Select a mesh"),
        ("mark_as_asset", "Select a mesh of a result"),
    ):
        with pytest.raises(RuntimeError, match=words):
            getattr(bpy.ops.maquette, name)()


def test_grey_buttons_of_an_empty_scene_say_why(scene):
    for name, words in (
        ("cancel_job", "Nothing is running"),
        ("edit_mask", "Make a mesh first, a draft will do"),
        ("remove_photo", "The list is empty"),
    ):
        with pytest.raises(RuntimeError, match=words):
            getattr(bpy.ops.maquette, name)()


def test_models_and_their_terms(panels, module, scene, monkeypatch, tmp_path):
    """Every card: licence, commercial use, territory; then what can be done with each model."""
    cards, models = module("core.weights.cards"), module("operators.models")
    texts = panels()["models"].texts
    for card in cards.all_cards():
        assert f"Licence: {card.licence}" in texts and f"Territory: {card.territory}" in texts
        assert any(text.startswith(f"{card.models[0].name}, ") for text in texts)
    there = module("core.weights.store").InstalledModel("triposr", "triposr", "model.ckpt", {}, "")
    mine = module("core.weights.store").InstalledModel("mine", "nerf", "a.pth", {}, "")
    shelf = models.Shelf({"triposr": there, "mine": mine}, {"openlrm-obj-small-1.1": 5_000_000})
    monkeypatch.setattr(models, "_shelf", shelf)
    drawn = panels()["models"]
    assert ("maquette.use_model", "Use for Single Pictures") in drawn.buttons
    assert ("maquette.download_model", "Resume (5 MB there)") in drawn.buttons
    assert any(text.startswith("mine (") for text in drawn.texts)


def test_jobs_in_all_states(panels, module, scene, monkeypatch, tmp_path):
    """One that runs with its picture, two that wait, one that failed, one that is done; a copy beside them."""
    jobs, registry, request = (
        module("operators.jobs"),
        module("core.jobs.registry"),
        module("core.jobs.request"),
    )
    tasks = module("operators.tasks")
    write_png(tmp_path / "0.png", bpy_grey())
    line = jobs.registry()
    ids = [line.submit(request.Request("mesh", (), {}, str(tmp_path / str(i))), f"job {i}") for i in range(5)]
    running, _, _, failed, done = (line.find(job) for job in ids)
    running.state, running.stage, running.progress, running.preview = (
        "running",
        "field",
        0.4,
        tmp_path / "0.png",
    )
    running.eta, running.eta_at, running.reused = 75.0, registry.time.monotonic(), ["cameras"]
    line._entry = running
    failed.state, failed.error = "failed", {"code": "X", "message": "It broke.", "remedy": "Mend it."}
    failed.log_file, done.state = tmp_path / "log.txt", "done"
    task = tasks.start("Saving ball", lambda progress: 1 / 0, lambda answer: None, "save x")
    task._thread.join()
    tasks.poll()
    try:
        drawn = panels()["progress"]
        texts = drawn.texts
        assert any(text.startswith("Field, 40 %, 1:1") for text in texts)
        assert "Waiting for another job" in texts and "Waiting for 2 other jobs" in texts
        assert "Unchanged since last time:" in " ".join(texts) and "cameras" in " ".join(texts)
        assert "Mend it." in " ".join(texts) and "Saving ball" in texts
        assert [name for name, _ in drawn.buttons].count("maquette.cancel_job") == 3
        assert ("maquette.import_result", "Import") in drawn.buttons
    finally:
        line._entry = None
        line.entries.clear()
        tasks.stop_all()


def bpy_grey():
    import numpy as np

    return np.full((8, 8, 3), 0.5)


def test_the_engine_with_what_a_check_found(panels, module, monkeypatch):
    check = module("operators.check_engine")
    monkeypatch.setattr(check, "_findings", [("INFO", "Computes on the processor with 2 threads")])
    assert "Computes on the processor with 2" in " ".join(panels()["engine"].texts)
    assert ("maquette.check_engine", "Check") in panels()["engine"].buttons


def test_every_setting_and_button_has_a_tooltip(module):
    """A sentence that is more than the name, without a full stop at its end (Blender adds it)."""
    settings = module("operators.settings")
    for kind in settings.CLASSES:
        for item in kind.bl_rna.properties:
            if item.identifier in ("rna_type", "name", "schema", "bl_idname") or item.type in (
                "POINTER",
                "COLLECTION",
            ):
                continue
            if kind in (settings.CameraInfo, settings.ResultInfo):
                continue  # shown, not set
            assert len(item.description) > len(item.name) + 5, (kind.__name__, item.identifier)
            assert not item.description.endswith("."), item.identifier
    for name in dir(bpy.ops.maquette):
        kind = getattr(bpy.ops.maquette, name).get_rna_type()
        assert len(kind.description) > 10, name
        for item in kind.properties:
            if not (item.is_hidden or item.identifier in ("rna_type", "directory", "files", "filepath")):
                assert item.name, (name, item.identifier)


def test_keymap_menus_and_search(addon):
    """Ctrl Alt M in two editors, entries in File > Import and the Image menu, and every operator can be searched for."""
    keymaps = bpy.context.window_manager.keyconfigs.addon.keymaps
    for name in ("3D View", "Image"):
        items = [i for i in keymaps[name].keymap_items if i.idname == "maquette.image_to_mesh"]
        assert [(i.type, i.ctrl, i.alt, i.shift) for i in items] == [("M", True, True, False)]
    assert Path(__file__).is_file()
    for name in dir(bpy.ops.maquette):
        if name not in ("listen_for_escape",):
            assert getattr(bpy.ops.maquette, name).get_rna_type().name


def test_words_of_panels_can_be_translated(root):
    """Blender looks texts up whole: one that was put together from parts is translated before, and not looked up again."""
    for path in sorted((root / "panels").glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or getattr(call.func, "attr", "") not in ("label", "operator"):
                continue
            words = {keyword.arg: keyword.value for keyword in call.keywords}
            if not isinstance(words.get("text"), ast.JoinedStr):
                continue
            where = f"{path.name}:{call.lineno}"
            assert isinstance(words.get("translate"), ast.Constant), where
            letters = [part.value for part in words["text"].values if isinstance(part, ast.Constant)]
            assert not any(letter.isalpha() for letter in "".join(letters)), f"{where}: use words(...).format"
