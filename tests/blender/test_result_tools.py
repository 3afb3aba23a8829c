# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Result panel offers: Re-Bake, Decimate, Quads, Regenerate, Compare, Save, Mark as Asset, the report, the overlay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import bmesh
import bpy
import numpy as np
import pytest
from mathutils import Matrix

from tests.blender.ball import write_ball


@pytest.fixture
def ball(module, scene, tmp_path):
    """A coarse painted ball, imported and chosen; its root stands elsewhere than it was made."""
    folder = write_ball(tmp_path / "ball", module, rings=16, texture=64)
    bpy.ops.maquette.import_result(directory=str(folder))
    scene.maquette.mesh.device = "cpu"  # the engine need not ask for a graphics card
    mesh = bpy.context.view_layer.objects.active
    mesh.parent.matrix_world = Matrix.Translation((3, 0, 0)) @ mesh.parent.matrix_world
    bpy.context.view_layer.update()
    return mesh


def closed_ball(radius=1.0, quads=False):
    """(mesh) an icosphere, or a cube-sphere of quads; closed, without UVs."""
    data = bpy.data.meshes.new("closed")
    work = bmesh.new()
    if quads:
        bmesh.ops.create_cube(work, size=1.4 * radius)
        bmesh.ops.subdivide_edges(work, edges=work.edges, cuts=5, use_grid_fill=True)
    else:
        bmesh.ops.create_icosphere(work, subdivisions=4, radius=radius)
    work.to_mesh(data)
    work.free()
    return data


def arrays(data):
    """Vertices, and the corners of every face."""
    points = np.empty(3 * len(data.vertices), np.float32)
    data.vertices.foreach_get("co", points)
    return points, [tuple(face.vertices) for face in data.polygons]


def texture_of(item):
    material = item.material_slots[0].material
    return next(n for n in material.node_tree.nodes if n.bl_idname == "ShaderNodeTexImage").image


def test_re_bake_leaves_vertices_and_faces(ball, engine, scene, module):
    """Onto the result's own mesh after an edit: bit for bit the same geometry, a new texture, new figures."""
    ball.data.vertices[40].co.x += 0.1
    before, image, uvs = (
        arrays(ball.data),
        texture_of(ball),
        [tuple(u.vector) for u in ball.data.uv_layers[0].uv],
    )
    assert bpy.ops.maquette.re_bake(texture_size=512) == {"FINISHED"}
    assert ball.name in scene.objects and bpy.context.view_layer.objects.active == ball
    points, faces = arrays(ball.data)
    assert points.tobytes() == before[0].tobytes() and faces == before[1]
    assert [tuple(u.vector) for u in ball.data.uv_layers[0].uv] == uvs
    assert texture_of(ball) != image
    assert json.loads(ball.maquette.metrics)["photo_psnr"] == 31.25
    assert ball.maquette.folder != ball.parent.maquette.folder  # the result itself is as it was
    assert json.loads(ball.maquette.report)["faces"] == len(faces)
    sent = module("core.results").read_mesh(Path(ball.maquette.folder, "mesh.npz"))
    assert (
        sent.vertices.ravel().tobytes() == points.tobytes()
    )  # the frame of the result, whatever its root did since
    assert len([item for item in bpy.data.objects if item.type == "MESH"]) == 1


def test_re_bake_onto_quads_without_uvs_that_hang_elsewhere(ball, engine, scene, module):
    """An artist's own mesh, selected with the result: quads stay quads and get UVs that cut none of them."""
    own = bpy.data.objects.new("own", closed_ball(0.5, quads=True))
    scene.collection.objects.link(own)
    own.matrix_world = Matrix.Translation((3.3, -0.2, 0.5))
    for item in bpy.context.selected_objects:
        item.select_set(False)
    ball.select_set(True)
    own.select_set(True)
    bpy.context.view_layer.objects.active = own
    bpy.context.view_layer.update()
    before = arrays(own.data)
    assert bpy.ops.maquette.re_bake() == {"FINISHED"}
    points, faces = arrays(own.data)
    assert points.tobytes() == before[0].tobytes() and faces == before[1]
    assert all(len(face) == 4 for face in faces)
    corners = np.empty(2 * len(own.data.loops), np.float32)
    own.data.uv_layers.active.uv.foreach_get("vector", corners)
    corners = corners.reshape(-1, 4, 2)
    assert (corners.min(), corners.max()) >= (0, 0) and corners.max() <= 1
    assert (np.ptp(corners, axis=1) < 0.2).all()  # a quad cut by an island's border would span the texture
    sent = module("core.results").read_mesh(Path(own.maquette.folder, "mesh.npz"))
    world = np.array(ball.parent.matrix_world)
    placed = sent.vertices @ world[:3, :3].T + world[:3, 3]
    assert np.allclose(placed, points.reshape(-1, 3) + [3.3, -0.2, 0.5], atol=1e-5)
    seen = np.empty(len(own.data.vertices), np.float32)
    own.data.attributes["seen"].data.foreach_get("value", seen)
    assert np.array_equal(seen, np.arange(len(seen)) % 2)
    assert not [item for item in bpy.data.objects if "Maquette" in item.name]


def test_a_mesh_that_was_edited_meanwhile_is_left_alone(ball, engine, scene, module, monkeypatch):
    bake = module("operators.re_bake")
    request = bake.bake_request(bpy.context, ball, 256)
    entry = engine.submit(scene, request, ball.name)
    engine.wait(entry)
    ball.data.vertices[3].co.z += 0.01
    image = texture_of(ball)
    bpy.ops.maquette.import_result(job=entry.id)
    new = bpy.context.view_layer.objects.active
    assert new != ball and texture_of(ball) == image
    assert np.allclose(new.matrix_world, ball.matrix_world, atol=1e-5)


def test_shared_materials_are_copied_for_a_new_texture(ball, engine, scene):
    twin = ball.copy()
    twin.data = ball.data.copy()
    scene.collection.objects.link(twin)
    image = texture_of(ball)
    bpy.ops.maquette.re_bake()
    assert texture_of(twin) == image != texture_of(ball)


def test_linked_empty_and_lost_are_told(ball, engine, scene, tmp_path):
    ball.data.clear_geometry()
    with pytest.raises(RuntimeError, match="has no faces"):
        bpy.ops.maquette.re_bake()
    shutil.rmtree(ball.maquette.folder)
    with pytest.raises(RuntimeError, match="holds no readable result"):
        bpy.ops.maquette.re_bake()


def test_decimate_makes_a_lighter_version_beside_the_old(ball, engine, scene):
    ball.data = closed_ball()
    assert bpy.ops.maquette.remesh(method="DECIMATE", faces=1000) == {"FINISHED"}
    new = bpy.context.view_layer.objects.active
    assert new != ball and ball.hide_viewport and ball.hide_render and not new.hide_viewport
    assert abs(len(new.data.polygons) - 1000) <= 10 and len(ball.data.polygons) == 1280
    assert np.allclose(new.matrix_world, ball.matrix_world)
    assert not new.modifiers
    assert len(new.data.uv_layers) == 1 and json.loads(new.maquette.metrics)["photo_psnr"] == 31.25
    assert json.loads(new.maquette.report) == {
        "faces": len(new.data.polygons), "vertices": len(new.data.vertices), "parts": 1, "holes": 0, "watertight": True
    }  # fmt: skip
    assert scene.maquette.compare_with == ball
    with pytest.raises(RuntimeError, match=r"triangles already. Ask for fewer"):
        bpy.ops.maquette.remesh(method="DECIMATE", faces=100_000)


def test_quads_and_what_they_need(ball, engine, scene):
    """QuadriFlow, on a closed mesh; an open one is refused and nothing of the try stays."""
    count = len(bpy.data.objects), len(bpy.data.meshes)
    with pytest.raises(RuntimeError, match="needs a closed mesh"):  # the painted ball has an open seam
        bpy.ops.maquette.remesh(method="QUADS", faces=400)
    assert (len(bpy.data.objects), len(bpy.data.meshes)) == count
    assert not ball.hide_viewport and bpy.context.view_layer.objects.active == ball
    ball.data = closed_ball()
    assert bpy.ops.maquette.remesh(method="QUADS", faces=400, use_re_bake=False) == {"FINISHED"}
    new = bpy.context.view_layer.objects.active
    assert all(len(face.vertices) == 4 for face in new.data.polygons)
    assert 200 < len(new.data.polygons) < 800
    assert np.abs(np.linalg.norm(arrays(new.data)[0].reshape(-1, 3), axis=1) - 1).max() < 0.05


def test_regenerate_asks_for_the_same_again(ball, engine, scene, module, tmp_path):
    root = ball.parent
    photos = tmp_path / "photos"
    photos.mkdir()
    for camera in (child for child in root.children if child.type == "CAMERA"):
        path = photos / camera.data.maquette.photo
        path.write_bytes(b"a photo")
        camera.data.maquette.photo_path = str(path)
    (photos / "photo 6.jpg").write_bytes(b"the one that has no camera")
    root.maquette.settings = json.dumps(
        {
            "quality": "draft",
            "height": 1.5,
            "face_budget": 900,
            "device": "cpu",
            "threshold": 3.0,
            "region": [],
        }
    )
    placed = root.matrix_world.copy()
    assert bpy.ops.maquette.regenerate() == {"FINISHED"}
    new = bpy.context.view_layer.objects.active
    asked = json.loads(new.maquette.settings)
    assert (asked["quality"], asked["height"], asked["face_budget"]) == ("draft", 1.5, 900)
    assert asked["seed"] == 2**40 + 7 and "threshold" not in asked
    assert ball.hide_viewport and scene.maquette.compare_with == ball
    assert np.allclose(new.parent.matrix_world, placed, atol=1e-6)
    folder = Path(engine.places.data_folder(), "jobs")
    request = json.loads(max(folder.glob("*/request.json")).read_text())
    assert [Path(path).name for path in request["inputs"]] == [f"photo {i}.jpg" for i in range(7)]
    (photos / "photo 3.jpg").unlink()
    bpy.context.view_layer.objects.active = ball
    with pytest.raises(RuntimeError, match=r"photo 3.jpg is not there any more. Put the photos back"):
        bpy.ops.maquette.regenerate()


def test_compare_in_turns_and_side_by_side(ball, scene, module):
    with pytest.raises(RuntimeError, match="Choose another version first"):
        bpy.ops.maquette.compare()
    other = ball.copy()
    other.data = ball.data.copy()
    ball.users_collection[0].objects.link(other)
    other.hide_viewport = other.hide_render = True
    scene.maquette.compare_with = other
    bpy.ops.maquette.compare(mode="TOGGLE")
    assert (ball.hide_viewport, other.hide_viewport, other.hide_render) == (True, False, False)
    assert bpy.context.view_layer.objects.active == other and scene.maquette.compare_with == ball
    bpy.ops.maquette.compare(mode="TOGGLE")
    assert bpy.context.view_layer.objects.active == ball
    place = other.location.copy()
    bpy.ops.maquette.compare(mode="SIDE")
    bpy.context.view_layer.update()
    assert not ball.hide_viewport and not other.hide_viewport
    bounds = module("operators.compare")._extent
    assert bounds(other)[0] == pytest.approx(bounds(ball)[1] + 0.15 * np.ptp(bounds(ball)), abs=1e-4)
    assert other.location == place  # its own place is not touched
    surface = module("operators.re_bake")
    points = arrays(other.data)[0].reshape(-1, 3)
    assert np.allclose(surface._in_result(points, other, other.parent), points, atol=1e-5)
    bpy.ops.maquette.compare(mode="SIDE")
    assert other.hide_viewport and tuple(other.delta_location) == (0, 0, 0)


def test_save_result_and_import_it_from_there(ball, scene, tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    source = Path(ball.maquette.folder)
    assert bpy.ops.maquette.save_result(directory=str(shelf)) == {"FINISHED"}
    assert {p.relative_to(shelf / "ball") for p in (shelf / "ball").rglob("*")} == {
        p.relative_to(source) for p in source.rglob("*")
    }
    assert Path(ball.maquette.folder) == Path(ball.parent.maquette.folder) == shelf / "ball"
    with pytest.raises(RuntimeError, match="exists already"):
        bpy.ops.maquette.save_result(directory=str(shelf))
    shutil.rmtree(source)
    assert bpy.ops.maquette.import_result(directory=str(shelf / "ball")) == {"FINISHED"}


def test_mark_as_asset_with_a_picture_of_it(ball, scene, module):
    """The picture: the ball's silhouette is a disk, and colours are those of the paint, darker where the light is not."""
    from tests.blender.ball import paint

    assert bpy.ops.maquette.mark_as_asset() == {"FINISHED"}
    assert ball.asset_data.license == "GPL-3.0-or-later" and "Maquette" in ball.asset_data.tags
    assert tuple(ball.preview.image_size) == (256, 256)
    picture = module("operators.preview_picture").picture_of(ball)
    inside = picture[..., 3] > 0.5
    assert inside.mean() == pytest.approx(np.pi / 4 * 0.92**2, abs=0.02)
    assert set(np.unique(picture[..., 3])) == {0.0, 1.0}
    axes = module("operators.preview_picture")._axes()
    row, column = np.mgrid[0:256, 0:256]
    place = (np.stack([column, row], -1) + 0.5 - 128) / (128 * 0.92)
    depth = np.sqrt(np.clip(1 - (place**2).sum(-1), 0, 1))
    in_world = np.concatenate([place, depth[..., None]], -1) @ axes
    turn = np.array(ball.matrix_world)[:3, :3] / 0.5
    expected = paint(in_world @ turn)
    core = (place**2).sum(-1) < 0.5
    hue = picture[core][:, :3] / picture[core][:, :3].sum(1, keepdims=True)
    wanted = expected[core] / expected[core].sum(1, keepdims=True)
    assert np.median(np.abs(hue - wanted)) < 0.02
    shade = picture[core][:, :3].sum(1) / expected[core].sum(1)
    assert shade.max() <= 1.2 and shade.min() > 0.5


def test_report_of_shapes_known_by_heart(module, scene):
    """A cube of 6 quads; with one face off, a hole; two of them, two parts; one face turned round, not watertight."""
    measure = module("operators.mesh_report").measure

    def mesh(faces):
        corners = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
        data = bpy.data.meshes.new("cube")
        data.from_pydata(corners * 2, [], faces)
        return measure(data)

    cube = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    other = [tuple(8 + i for i in face) for face in cube]
    assert mesh(cube) == {"faces": 6, "vertices": 16, "parts": 1, "holes": 0, "watertight": True}
    assert mesh(cube[:5]) == {"faces": 5, "vertices": 16, "parts": 1, "holes": 1, "watertight": False}
    assert mesh(cube[2:]) == {"faces": 4, "vertices": 16, "parts": 1, "holes": 2, "watertight": False}
    assert mesh(cube + other)["parts"] == 2
    assert not mesh([cube[0][::-1], *cube[1:]])["watertight"]
    assert mesh([]) == {"faces": 0, "vertices": 16, "parts": 0, "holes": 0, "watertight": False}


def test_the_overlay_covers_what_was_not_seen(ball, module, scene):
    overlay = module("operators.seen_overlay")
    assert overlay.has_seen(ball)
    points, colours, corners = overlay.layer_of(ball.data)
    below = points[:, 2] <= -0.5  # as the painted ball says
    assert (colours[~below, 3] == 0).all() and np.allclose(colours[below, 3], 0.75) and below.any()
    assert corners.shape == (len(ball.data.polygons), 3)
    before = arrays(ball.data)
    scene.maquette.show_invented = True
    assert arrays(ball.data)[1] == before[1] and len(ball.data.materials) == 1
