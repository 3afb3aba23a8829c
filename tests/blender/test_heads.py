# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads in the scene: from a seed, from the gallery, from a photo, mixed, blended; what is missing is said on the button."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.blender.paper import draw


@pytest.fixture
def heads(module, scene):
    options = module("operators.head_options").head_options(scene)
    options.model = "stand_in"
    return options


def asked(item):
    return json.loads(item.maquette.settings)


def made(seed, heads):
    heads.seed = seed
    assert bpy.ops.maquette.generate_head() == {"FINISHED"}
    return bpy.context.view_layer.objects.active


def test_a_head_from_a_seed(engine, heads, scene):
    heads.truncation = 0.4
    scene.maquette.mesh.quality = "draft"
    head = made(11, heads)
    assert head.maquette.method == "head_sample"
    settings = asked(head)
    assert (settings["seed"], round(settings["truncation"], 3), settings["quality"]) == (11, 0.4, "draft")
    assert head.name.startswith("Head 11")
    before = head.maquette.folder
    assert bpy.ops.maquette.regenerate() == {"FINISHED"}
    again = bpy.context.view_layer.objects.active
    assert asked(again) == settings and again.maquette.folder != before and head.hide_viewport


def test_without_a_generator_the_buttons_say_so(engine, heads, module, monkeypatch, tmp_path):
    heads.model = ""
    monkeypatch.setattr(module("operators.head_options"), "BUNDLED", tmp_path / "none.safetensors")
    assert not bpy.ops.maquette.generate_head.poll() and not bpy.ops.maquette.head_gallery.poll()
    with pytest.raises(RuntimeError, match="No generator of heads is installed"):
        bpy.ops.maquette.generate_head()
    heads.model = "some_file.pkl"
    assert bpy.ops.maquette.generate_head.poll()


def test_the_gallery_and_one_of_it(engine, heads):
    heads.seed, heads.count, heads.truncation = 3, 4, 0.9
    assert bpy.ops.maquette.head_gallery() == {"FINISHED"}
    assert [item.seed for item in heads.gallery] == [3, 4, 5, 6]
    assert all(tuple(item.image.size) == (6, 3) and item.image.packed_file for item in heads.gallery)
    assert not any(item.type == "MESH" for item in bpy.data.objects)
    pictures = len(bpy.data.images)
    bpy.ops.maquette.head_gallery()
    assert len(bpy.data.images) == pictures
    heads.truncation = 0.1
    assert bpy.ops.maquette.use_head(index=2) == {"FINISHED"}
    settings = asked(bpy.context.view_layer.objects.active)
    assert (settings["seed"], round(settings["truncation"], 3)) == (5, 0.9)
    heads.model = "stand_in"  # the stand-in engine's gallery names no generator
    with pytest.raises(RuntimeError, match="no such head"):
        bpy.ops.maquette.use_head(index=9)
    bpy.ops.maquette.clear_gallery()
    assert len(heads.gallery) == 0


def test_the_orbit_preview_shows_what_the_camera_will_see(engine, heads, module):
    """Its picture follows the camera's angles, and goes when another head is asked for."""
    shown_side = module("operators.orbit_head").shown_side
    heads.seed, heads.truncation = 5, 0.5
    assert shown_side(heads) is None
    assert bpy.ops.maquette.orbit_head() == {"FINISHED"}
    assert len(heads.orbit) == 12 and not any(item.type == "MESH" for item in bpy.data.objects)
    pictures = len(bpy.data.images)
    heads.yaw = np.radians(47)
    assert round(np.degrees(shown_side(heads).yaw)) == 60
    heads.yaw = np.radians(176)  # 180 is the same place as -180
    assert round(np.degrees(shown_side(heads).yaw)) == -180
    heads.elevation = np.radians(20)
    head = made(5, heads)
    assert (round(asked(head)["yaw"]), round(asked(head)["elevation"])) == (176, 20)
    heads.seed = 6
    assert shown_side(heads) is None
    bpy.ops.maquette.orbit_head()
    assert shown_side(heads) is not None and len(bpy.data.images) >= pictures
    heads.gallery.add().seed = 3
    heads.gallery[0].truncation = 0.5
    heads.gallery[0].model = "stand_in"
    assert (
        bpy.ops.maquette.use_head(index=0) == {"FINISHED"} and heads.seed == 3 and shown_side(heads) is None
    )


def test_two_heads_are_mixed(engine, heads, scene):
    with pytest.raises(RuntimeError, match="Select a head that Maquette made"):
        bpy.ops.maquette.mix_heads()
    first, second = made(1, heads), made(2, heads)
    with pytest.raises(RuntimeError, match="Choose a head to mix with"):
        bpy.ops.maquette.mix_heads()
    heads.mix_with = second
    with pytest.raises(RuntimeError, match="Choose another head"):
        bpy.ops.maquette.mix_heads()
    heads.mix_with, heads.share = first, 0.25
    assert bpy.ops.maquette.mix_heads() == {"FINISHED"}
    settings = asked(bpy.context.view_layer.objects.active)
    assert (settings["begin"], settings["interpolate"]) == (second.maquette.folder, first.maquette.folder)
    assert settings["share"] == pytest.approx(0.25)
    shutil.rmtree(first.maquette.folder)
    bpy.context.view_layer.objects.active = second
    with pytest.raises(RuntimeError, match="is not at"):
        bpy.ops.maquette.mix_heads()


def test_a_head_from_a_photo(engine, heads, photos, scene):
    with pytest.raises(RuntimeError, match="No photo is chosen"):
        bpy.ops.maquette.head_from_photo()
    given = photos("face.png", "other.png")
    bpy.ops.maquette.add_photos(source="FILES", **given)
    with pytest.raises(RuntimeError, match="Leave one portrait in the list"):
        bpy.ops.maquette.head_from_photo()
    scene.maquette.photos.remove(1)
    assert bpy.ops.maquette.head_from_photo() == {"FINISHED"}
    head = bpy.context.view_layer.objects.active
    assert head.maquette.method == "head_invert" and head.name.startswith("face head")
    facts = draw(bpy.types.MAQUETTE_PT_head_facts)
    assert "Likeness 27.5 dB" in facts.texts and "colours and gradients" in " ".join(facts.texts)
    assert bpy.ops.maquette.regenerate() == {"FINISHED"}  # from the photo where it lay


def test_a_blend_of_a_head_and_a_photo(engine, heads, photos, scene, module):
    refusals = [
        ({}, "Choose an original"),
        ({"original": 1}, "Choose a reference"),
        ({"original": 1, "reference": 1}, "are the same head"),
    ]
    first, second = made(1, heads), made(2, heads)
    for chosen, why in refusals:
        heads.original = first if "original" in chosen else None
        heads.reference = first if "reference" in chosen else None
        with pytest.raises(RuntimeError, match=why):
            bpy.ops.maquette.blend_heads()
    heads.reference, heads.take, heads.use_poisson, heads.region = second, "SHAPE", True, "nose"
    assert bpy.ops.maquette.blend_heads() == {"FINISHED"}
    blend = bpy.context.view_layer.objects.active
    settings = asked(blend)
    assert (settings["region"], settings["shape_only"], settings["poisson"]) == ("nose", True, True)
    assert blend.maquette.method == "head_blend" and not first.hide_viewport
    drawn = draw(bpy.types.MAQUETTE_PT_blend_heads)
    assert "Before" in drawn.texts and "After" in drawn.texts
    assert bpy.ops.maquette.regenerate() == {"FINISHED"}
    given = photos("face.png")
    heads.reference, heads.reference_photo = None, f"{given['directory']}/face.png"
    assert bpy.ops.maquette.blend_heads() == {"FINISHED"}
    heads.reference_photo = f"{given['directory']}/gone.png"
    with pytest.raises(RuntimeError, match="does not exist"):
        bpy.ops.maquette.blend_heads()


def test_a_region_is_painted(engine, heads, tmp_path):
    with pytest.raises(RuntimeError, match="Choose an original first"):
        bpy.ops.maquette.paint_region()
    heads.original = made(1, heads)
    heads.reference = made(2, heads)
    heads.region = "MASK"
    with pytest.raises(RuntimeError, match="Paint a region"):
        bpy.ops.maquette.blend_heads()
    assert bpy.ops.maquette.paint_region() == {"FINISHED"}
    image = heads.mask
    assert tuple(image.size) == (8, 8) and heads.region == "MASK"
    pixels = np.empty(256, np.float32)
    image.pixels.foreach_get(pixels)
    assert pixels[3::4] == pytest.approx(0.5, abs=0.01)  # faint
    assert pixels[0] == pytest.approx(90 / 255, abs=0.01)  # its picture is still to be seen
    pixels[3:64:4] = 1.0
    image.pixels.foreach_set(pixels)
    assert bpy.ops.maquette.blend_heads() == {"FINISHED"}
    path = Path(asked(bpy.context.view_layer.objects.active)["mask"])
    mask = bpy.data.images.load(str(path))
    mask.pixels.foreach_get(pixels)
    assert pixels[3::4].sum() == pytest.approx(16)
    own = bpy.data.images.new("Own", 8, 8, alpha=True)
    own.pixels.foreach_set(np.tile(np.float32([1, 1, 1, 51 / 255]), 64))
    heads.mask = own
    assert bpy.ops.maquette.blend_heads() == {"FINISHED"}
    mask = bpy.data.images.load(asked(bpy.context.view_layer.objects.active)["mask"])
    mask.pixels.foreach_get(pixels)
    assert pixels[3::4] == pytest.approx(51 / 255, abs=0.01)  # a picture of the artist's own stays as it is
    Path(heads.original.maquette.folder, "picture.png").unlink()
    with pytest.raises(RuntimeError, match="cannot be read"):
        bpy.ops.maquette.paint_region()


def test_all_panels_and_tooltips(engine, heads, module):
    made(1, heads)
    heads.region = "MASK"
    bpy.ops.maquette.head_gallery()
    for kind in module("panels.heads").CLASSES:
        draw(kind)
    labels = [label for _, label in draw(bpy.types.MAQUETTE_PT_generate_head).buttons]
    assert {"Generate Head", "Make This One", "Mix Heads"} <= set(labels)
    for kind in module("operators.head_options").CLASSES:
        for item in kind.bl_rna.properties:
            if item.identifier not in ("rna_type", "name", "bl_idname") and item.type != "COLLECTION":
                assert len(item.description) > len(item.name) + 5, item.identifier
                assert not item.description.endswith("."), item.identifier
