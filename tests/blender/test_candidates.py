# SPDX-License-Identifier: GPL-3.0-or-later
"""Candidates of one picture: they come into a list with their previews, and one of them becomes the mesh."""

from __future__ import annotations

import json

import bpy
import pytest


def test_candidates_come_in_and_one_is_made(engine, photos, scene):
    bpy.ops.maquette.add_photos(source="FILES", **photos("a.png"))
    scene.maquette.mesh.seed = 4
    assert bpy.ops.maquette.candidates() == {"FINISHED"}
    listed = scene.maquette.candidates
    assert [(item.model, item.seed, item.licence) for item in listed] == [
        ("tiny", s, "CC0-1.0") for s in (4, 5)
    ]
    assert all(tuple(item.image.size) == (6, 2) and item.image.packed_file for item in listed)
    assert not any(item.type == "MESH" for item in bpy.data.objects)
    assert engine.entries() == []
    pictures = len(bpy.data.images)
    bpy.ops.maquette.candidates()
    assert len(bpy.data.images) == pictures  # the earlier ones' previews went
    bpy.ops.maquette.remove_photo(use_all=True)
    assert bpy.ops.maquette.use_candidate(index=1) == {"FINISHED"}
    asked = json.loads(bpy.data.objects["a"].maquette.settings)
    assert (asked["method"], asked["model"], asked["seed"]) == ("lrm", "tiny", 5)
    bpy.ops.maquette.clear_candidates()
    assert len(scene.maquette.candidates) == 0


def test_a_model_and_a_number_of_seeds(engine, photos, scene, monkeypatch):
    bpy.ops.maquette.add_photos(source="FILES", **photos("a.png"))
    scene.maquette.mesh.model = "triposr"
    asked = []
    submit = engine.submit
    monkeypatch.setattr(engine, "submit", lambda *given: asked.append(given[1]) or submit(*given))
    bpy.ops.maquette.candidates(seeds=3)
    assert asked[0].verb == "candidates"
    assert (asked[0].settings["models"], asked[0].settings["seeds"]) == (["triposr"], 3)


def test_one_picture_only(engine, photos, scene):
    with pytest.raises(RuntimeError, match="No photo is chosen"):
        bpy.ops.maquette.candidates()
    bpy.ops.maquette.add_photos(source="FILES", **photos("a.png", "b.png"))
    with pytest.raises(RuntimeError, match="2 are chosen"):
        bpy.ops.maquette.candidates()
    with pytest.raises(RuntimeError, match="no such candidate"):
        bpy.ops.maquette.use_candidate(index=0)


def test_one_selected_picture_becomes_a_mesh(engine, photos, scene):
    """An image empty alone is enough; the engine is told the method where the artist has chosen it."""
    given = photos("chair.png")
    image = bpy.data.images.load(f"{given['directory']}/chair.png")
    empty = bpy.data.objects.new("chair", None)
    empty.empty_display_type, empty.data = "IMAGE", image
    scene.collection.objects.link(empty)
    empty.select_set(True)
    for method in ("auto", "lrm"):
        scene.maquette.mesh.method = method
        assert bpy.ops.maquette.image_to_mesh() == {"FINISHED"}
        mesh = bpy.context.view_layer.objects.active
        assert json.loads(mesh.maquette.settings)["method"] == method
        for item in bpy.context.view_layer.objects:
            item.select_set(item == empty)
        bpy.context.view_layer.objects.active = empty
