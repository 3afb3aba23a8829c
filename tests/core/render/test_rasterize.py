# SPDX-License-Identifier: GPL-3.0-or-later
"""The z-buffer against closed forms and against the slow reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maquette.core.render import rasterize as rasterize_module
from maquette.core.render.rasterize import rasterize, rasterize_uv, spans
from maquette.core.types import Camera

from ...reference.rasterize import rasterize as slow_rasterize


def camera_at(position=(0.0, 0.0, 0.0), width=64, height=48, focal=50.0):
    """Looks along +z of the world, x right, y down."""
    pose = np.eye(4)
    pose[:3, 3] = position
    return Camera("c", width, height, focal, focal * 1.1, width / 2 + 1.3, height / 2 - 2.1, pose)


def random_triangles(count, seed, depth=(1.0, 3.0), size=0.4):
    rng = np.random.default_rng(seed)
    centre = np.concatenate([rng.uniform(-1, 1, (count, 1, 2)), rng.uniform(*depth, (count, 1, 1))], 2)
    return (centre + rng.normal(0, size, (count, 3, 3))).reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


def test_one_triangle_by_hand():
    # At z = 2 with focal 10 a unit is 5 pixels: corners at pixels (0, 0), (10, 0), (0, 10).
    camera = Camera("c", 12, 12, 10.0, 10.0, 0.0, 0.0, np.eye(4))
    vertices = torch.tensor([[0.0, 0, 2], [2, 0, 2], [0, 2, 2]])
    raster = rasterize(vertices, torch.tensor([[0, 1, 2]]), camera)
    # Row j covers pixel centres i + 0.5 < 10 - (j + 0.5): 9 - j of them, the centre on the hypotenuse excluded.
    assert (raster.face == 0).sum(1).tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]
    torch.testing.assert_close(raster.barycentric[1, 3], torch.tensor([0.5, 0.35, 0.15]))
    assert raster.depth[1, 3] == 2.0 and torch.isinf(raster.depth[11, 11])


@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_the_slow_reference(seed):
    vertices, faces = random_triangles(30, seed)
    camera = camera_at(width=40, height=30, focal=30.0)
    fast = rasterize(torch.tensor(vertices).float(), torch.tensor(faces), camera, near=0.2)
    face, weights, depth, unsure = slow_rasterize(vertices, faces, camera, 0.2)
    assert unsure.mean() < 0.05 and (face >= 0).mean() > 0.3
    sure = ~unsure
    np.testing.assert_array_equal(fast.face.numpy()[sure], face[sure])
    seen = sure & (face >= 0)
    np.testing.assert_allclose(fast.depth.numpy()[seen], depth[seen], rtol=2e-4)
    np.testing.assert_allclose(fast.barycentric.numpy()[seen], weights[seen], atol=2e-3)


def test_cut_by_the_near_plane_agrees_with_the_slow_reference():
    vertices, faces = random_triangles(30, 5, depth=(-0.5, 1.0), size=0.6)
    camera = camera_at(width=40, height=30, focal=30.0)
    fast = rasterize(torch.tensor(vertices).float(), torch.tensor(faces), camera, near=0.1)
    face, _, depth, unsure = slow_rasterize(vertices, faces, camera, 0.1)
    sure = ~unsure
    assert sure.mean() > 0.9 and (face >= 0).mean() > 0.4
    assert (fast.face.numpy()[sure] == face[sure]).mean() > 0.998
    same = sure & (fast.face.numpy() == face) & (face >= 0)
    np.testing.assert_allclose(fast.depth.numpy()[same], depth[same], rtol=1e-3)


def test_a_triangulated_square_is_covered_exactly_once():
    # Delaunay triangles of random points in a square: every pixel centre inside belongs to exactly one of them.
    from scipy.spatial import Delaunay

    rng = np.random.default_rng(0)
    inner = rng.uniform(0.1, 49.9, (400, 2)).round(1)  # rounded, so that many centres lie exactly on edges
    points = np.concatenate([inner, [[0, 0], [50, 0], [50, 50], [0, 50]]])
    corners = torch.tensor(Delaunay(points).simplices).long()
    count = torch.zeros(50 * 50, dtype=torch.long)
    for pixel, _, _ in spans(torch.tensor(points).float(), torch.ones(len(points)), corners, 50, 50):
        count += torch.bincount(pixel, minlength=2500)
    assert count.min() == 1 and count.max() == 1


def test_nearest_wins_and_ties_go_to_the_lower_face():
    vertices = torch.tensor([[-9.0, -9, 2], [9, -9, 2], [0, 9, 2], [-9, -9, 1], [9, -9, 1], [0, 9, 1]])
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [3, 4, 5]])
    raster = rasterize(vertices, faces, camera_at(width=8, height=8))
    assert raster.face.unique().tolist() == [1] and raster.depth.max() == 1.0


def test_culling_keeps_what_faces_the_camera():
    vertices = torch.tensor([[-1.0, 1, 2], [0, -1, 2], [1, 1, 2]])
    # (b - a) x (c - a) = (1, -2, 0) x (2, 0, 0) points along +z, away from the camera: the first order shows its back.
    shown = [
        rasterize(vertices, torch.tensor([f]), camera_at(), cull=True).face.max()
        for f in ([0, 1, 2], [2, 1, 0])
    ]
    assert [int(s) for s in shown] == [-1, 0]


def test_chunks_do_not_change_the_picture(monkeypatch):
    vertices, faces = random_triangles(300, 2)
    arguments = (torch.tensor(vertices).float(), torch.tensor(faces), camera_at())
    whole = rasterize(*arguments)
    monkeypatch.setattr(rasterize_module, "CHUNK", 97)
    parts = rasterize(*arguments)
    assert torch.equal(whole.face, parts.face)
    torch.testing.assert_close(whole.barycentric, parts.barycentric)


def test_uv_square_and_its_strips():
    # Two triangles over the lower left quarter of an 8 x 8 texture: rows 4..7, columns 0..3.
    uvs = torch.tensor([[[0.0, 0], [0.5, 0], [0.5, 0.5]], [[0.0, 0], [0.5, 0.5], [0, 0.5]]])
    whole = rasterize_uv(uvs, 8)
    assert torch.nonzero(whole.face >= 0).amin(0).tolist() == [4, 0]
    assert (whole.face >= 0).sum() == 16 and torch.nonzero(whole.face >= 0).amax(0).tolist() == [7, 3]
    # Texel (row 7, column 3) has its centre at u = 3.5 / 8, v = 0.5 / 8.
    uv = (whole.barycentric[7, 3, :, None] * uvs[int(whole.face[7, 3])]).sum(0)
    torch.testing.assert_close(uv, torch.tensor([3.5 / 8, 0.5 / 8]))
    strips = torch.cat([rasterize_uv(uvs, 8, (row, row + 2)).face for row in (0, 2, 4, 6)])
    assert torch.equal(strips, whole.face)


def test_nothing_to_draw():
    empty = rasterize(torch.zeros((0, 3)), torch.zeros((0, 3), dtype=torch.long), camera_at())
    behind = rasterize(
        torch.tensor([[0.0, 0, -1], [1, 0, -1], [0, 1, -1]]), torch.tensor([[0, 1, 2]]), camera_at()
    )
    assert int(empty.face.max()) == -1 and int(behind.face.max()) == -1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu():
    vertices, faces = random_triangles(2000, 3, size=0.1)
    arguments = torch.tensor(vertices).float(), torch.tensor(faces)
    here = rasterize(*arguments, camera_at(width=256, height=256, focal=200.0))
    there = rasterize(*(a.cuda() for a in arguments), camera_at(width=256, height=256, focal=200.0))
    assert (here.face == there.face.cpu()).float().mean() > 0.9995
