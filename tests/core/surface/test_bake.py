# SPDX-License-Identifier: GPL-3.0-or-later
"""Baking: colours come back from rendered views, hidden parts from the field, exposure is evened out, seams vanish."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from maquette.core.render.rasterize import rasterize
from maquette.core.render.shade import render_textured
from maquette.core.surface.bake import BakeSettings, bake_texture, fill_gaps
from maquette.core.surface.gains import solve_gains
from maquette.core.surface.match import match_view
from maquette.core.surface.uv import UvSettings, unwrap
from maquette.core.types import Camera, Mesh, View

from ...reference.extract import AnalyticField, sphere


def stripes(points):
    """(N, 3) on the unit ball -> (N, 3) smooth colours."""
    return 0.5 + 0.3 * torch.sin(4 * points + torch.tensor([0.0, 1.0, 2.0]))


@pytest.fixture(scope="module")
def ball():
    shape = trimesh.creation.icosphere(4)
    return unwrap(
        Mesh(np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32)), UvSettings(size=512)
    )


def camera_from(direction, size=256, distance=4.0):
    """Looks at the origin from `direction`; image rows run down the world's z."""
    forward = -np.asarray(direction, float) / np.linalg.norm(direction)
    right = np.cross(forward, [0.0, 0.1, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = -forward * distance
    return Camera("v", size, size, size * 1.6, size * 1.6, size / 2, size / 2, pose)


def view_of(mesh, direction, gain=1.0, colour=stripes, size=256):
    camera = camera_from(direction, size)
    vertices, faces = torch.tensor(mesh.vertices), torch.tensor(mesh.faces).long()
    raster = rasterize(vertices, faces, camera)
    points = (vertices[faces[raster.face.clamp_min(0).long()]] * raster.barycentric[..., None]).sum(2)
    mask = raster.face >= 0
    rgb = torch.where(mask[..., None], colour(points) * gain, 0.0)
    return View(camera, rgb.numpy().astype(np.float32), mask.float().numpy())


def texel_points(mesh, size):
    from maquette.core.render.rasterize import rasterize_uv

    raster = rasterize_uv(torch.tensor(mesh.uvs), size)
    corners = torch.tensor(mesh.vertices)[torch.tensor(mesh.faces)[raster.face.clamp_min(0).long()].long()]
    return (corners * raster.barycentric[..., None]).sum(2), raster.face >= 0


AROUND = [
    (1, 0, 0.3),
    (-1, 0.1, 0.3),
    (0, 1, 0.2),
    (0.1, -1, 0.2),
    (0, 0, 1),
    (0.1, 0.2, -1),
    (1, 1, -0.5),
    (-1, -1, -0.5),
]


def test_colours_come_back_from_views_all_around(ball):
    baked = bake_texture(ball, [view_of(ball, d) for d in AROUND], settings=BakeSettings(size=512))
    points, inside = texel_points(ball, 512)
    error = (torch.tensor(baked.texture) - stripes(points)).abs().amax(2)[inside]
    assert error.mean() < 0.006 and torch.quantile(error[:: max(1, len(error) // 100000)], 0.99) < 0.03
    assert baked.seen[inside.numpy()].mean() > 0.97 and baked.vertex_seen.mean() > 0.97
    assert np.abs(baked.gains - 1).max() < 0.01


def test_what_no_view_sees_comes_from_the_field(ball):
    field = AnalyticField(sphere(1.0), colour=lambda p: stripes(p) * 0.9)
    baked = bake_texture(ball, [view_of(ball, (1, 0, 0))], field, BakeSettings(size=512))
    points, inside = texel_points(ball, 512)
    error = (torch.tensor(baked.texture) - stripes(points)).abs().amax(2)
    front, back = inside & (points[..., 0] > 0.75), inside & (points[..., 0] < 0.2)
    assert baked.seen[front.numpy()].min() > 0.95 and baked.seen[back.numpy()].max() == 0
    assert error[front].mean() < 0.006
    # The field is a tenth darker than the photos; the seen parts tell, so the unseen side comes out right as well.
    assert error[back].mean() < 0.01
    right, left = ball.vertices[:, 0] > 0.75, ball.vertices[:, 0] < 0.2
    assert baked.vertex_seen[right].min() > 0.9 and baked.vertex_seen[left].max() == 0


def test_without_a_field_colours_spread_from_what_was_seen(ball):
    plain = view_of(ball, (1, 0, 0), colour=lambda p: torch.full_like(p, 0.5) + torch.tensor([0.2, 0, -0.2]))
    baked = bake_texture(ball, [plain], settings=BakeSettings(size=256))
    _, inside = texel_points(ball, 256)
    assert np.abs(baked.texture[inside.numpy()] - [0.7, 0.5, 0.3]).max() < 0.02


def test_exposure_is_evened_out(ball):
    gain = np.array([1.15, 0.9, 1.0, 1.0, 0.85, 1.1, 1.0, 1.0])
    views = [view_of(ball, d, g) for d, g in zip(AROUND, gain, strict=True)]
    baked = bake_texture(ball, views, settings=BakeSettings(size=512))
    product = baked.gains * gain[:, None]
    assert product.std(0).max() < 0.01  # every photo comes out at the same brightness
    raw = bake_texture(ball, views, settings=BakeSettings(size=512, equalise=False))
    points, inside = texel_points(ball, 512)
    ratio = [(torch.tensor(b.texture)[inside] / stripes(points)[inside]).std() for b in (baked, raw)]
    assert ratio[0] < 0.35 * ratio[1]


def test_hidden_parts_do_not_take_the_colour_of_what_hides_them():
    # A white plate before a black wall, seen from the front: no white on the wall.
    plate = trimesh.creation.box((0.6, 0.05, 0.6)).apply_translation((0, -0.8, 0))
    wall = trimesh.creation.box((2, 0.05, 2)).subdivide().subdivide().subdivide()
    shape = trimesh.util.concatenate([plate, wall])
    mesh = unwrap(
        Mesh(np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32)), UvSettings(size=256)
    )
    colour = lambda p: (p[..., 1:2] < -0.5).float().expand(p.shape)  # noqa: E731
    views = [view_of(mesh, d, colour=colour) for d in ((0, -1, 0), (0.4, -1, 0), (-0.4, -1, 0.1))]
    baked = bake_texture(mesh, views, settings=BakeSettings(size=256))
    points, inside = texel_points(mesh, 256)
    on_wall = (inside & (points[..., 1] > -0.2)).numpy()
    assert (
        baked.texture[on_wall].max() < 0.2
        and baked.texture[(inside & (points[..., 1] < -0.81)).numpy()].min() > 0.8
    )


def test_gains_by_hand():
    # View 1 is twice as bright as view 0 and view 2 half as bright as view 1: factors 2^(1/3), 2^(-2/3), 2^(1/3).
    first, second = np.array([0, 1] * 50), np.array([1, 2] * 50)
    one = np.repeat(np.array([[0.2], [0.4]], np.float32), 3, 1)[[0, 1] * 50]
    other = np.repeat(np.array([[0.4], [0.2]], np.float32), 3, 1)[[0, 1] * 50]
    gains = solve_gains(first, second, one, other, np.ones(100, np.float32), 4)
    np.testing.assert_allclose(
        gains[:, 0],
        [2 ** (1 / 3), 1 / 1.6 if 2 ** (-2 / 3) < 1 / 1.6 else 2 ** (-2 / 3), 2 ** (1 / 3), 1],
        rtol=0.01,
    )


def test_gaps_take_the_nearest_colour():
    texture = np.zeros((5, 5, 3), np.float32)
    texture[0, 0], texture[4, 4] = 0.25, 0.75
    filled = np.zeros((5, 5), bool)
    filled[0, 0] = filled[4, 4] = True
    out = fill_gaps(texture, filled)
    assert out[1, 1, 0] == 0.25 and out[3, 3, 0] == 0.75 and out.min() == 0.25


def test_a_baked_mesh_matches_its_photos(ball):
    views = [view_of(ball, d) for d in AROUND]
    baked = bake_texture(ball, views, settings=BakeSettings(size=512))
    match = match_view(ball, baked.texture, views[0])
    assert match["silhouette_iou"] > 0.99 and match["photo_psnr"] > 35
    rgb, alpha = render_textured(ball, torch.tensor(baked.texture), views[0].camera)
    assert rgb.shape == (256, 256, 3) and 0.3 < float(alpha.mean()) < 0.6


def test_without_any_view_the_field_gives_all_colours(ball):
    field = AnalyticField(sphere(1.0), colour=stripes)
    baked = bake_texture(ball, [], field, BakeSettings(size=128))
    points, inside = texel_points(ball, 128)
    assert (torch.tensor(baked.texture) - stripes(points)).abs()[inside].max() < 2e-3  # half precision
    assert baked.seen.max() == 0 and baked.vertex_seen.shape == (len(ball.vertices),)
    assert bake_texture(ball, [], settings=BakeSettings(size=64)).texture.shape == (64, 64, 3)


def test_bands_of_a_large_texture_give_the_same(ball, monkeypatch):
    from maquette.core.surface import bake

    views = [view_of(ball, d) for d in AROUND[:3]]
    whole = bake_texture(ball, views, settings=BakeSettings(size=512, equalise=False))
    monkeypatch.setattr(bake, "SAMPLE", 256)
    monkeypatch.setattr(bake, "BAND", 512 * 100)
    parts = bake_texture(ball, views, settings=BakeSettings(size=512, equalise=False))
    seen = whole.seen > 0.99
    assert np.array_equal(whole.seen, parts.seen) and np.abs(whole.texture - parts.texture)[seen].max() < 1e-3
