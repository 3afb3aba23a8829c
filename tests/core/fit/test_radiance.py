# SPDX-License-Identifier: GPL-3.0-or-later
"""A coloured ball, seen from all sides: hull, fit, pictures from new cameras, signed distances, file round trip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.fields.fused import FusedField
from maquette.core.fields.sparse_grid import SparseGrid
from maquette.core.fit.bounds import box_around, hull_box, region_cube
from maquette.core.fit.fusion import fuse
from maquette.core.fit.occupancy import grid_shape, refine, visual_hull
from maquette.core.fit.radiance import FitSettings, fit_radiance
from maquette.core.models.stored_field import load_field
from maquette.core.progress import Progress
from maquette.core.render.volume import render_field
from maquette.core.types import Camera, View

RADIUS = 0.6


def looking_at_origin(azimuth: float, elevation: float, distance: float = 3.0, size: int = 64) -> Camera:
    ca, sa, ce, se = np.cos(azimuth), np.sin(azimuth), np.cos(elevation), np.sin(elevation)
    centre = distance * np.array([ca * ce, sa * ce, se])
    forward = -centre / distance
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = centre
    return Camera(
        f"{azimuth:.2f}_{elevation:.2f}", size, size, 1.2 * size, 1.2 * size, size / 2, size / 2, pose
    )


def ball_view(camera: Camera) -> View:
    """A ball of RADIUS whose colour is its normal, by ray tracing; 4 x 4 rays a pixel."""
    fine = camera.resized(camera.width * 4, camera.height * 4)
    x, y = np.meshgrid(
        (np.arange(fine.width) + 0.5 - fine.cx) / fine.fx, (np.arange(fine.height) + 0.5 - fine.cy) / fine.fy
    )
    rays = np.stack([x, y, np.ones_like(x)], -1) @ camera.cam_to_world[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    along = -(rays @ camera.centre)
    miss = camera.centre @ camera.centre - along**2
    hit = miss < RADIUS**2
    points = camera.centre + rays * (along - np.sqrt(np.maximum(RADIUS**2 - miss, 0)))[..., None]
    colour = np.where(hit[..., None], points / RADIUS * 0.4 + 0.5, 0)
    shape = camera.height, 4, camera.width, 4
    alpha = hit.reshape(shape).mean((1, 3))
    rgb = colour.reshape(*shape, 3).mean((1, 3)) / np.maximum(alpha, 1e-6)[..., None]
    return View(camera, rgb.astype(np.float32), alpha.astype(np.float32))


@pytest.fixture(scope="module")
def views() -> list[View]:
    places = [(a, e) for e in (-0.9, -0.3, 0.3, 0.9) for a in np.arange(0, 6.2, 0.8)]
    return [ball_view(looking_at_origin(a, e)) for a, e in places]


@pytest.fixture(scope="module")
def field(views: list[View]) -> SparseGrid:
    box = hull_box(views, np.array([[-1.5] * 3, [1.5] * 3]))
    occupied = visual_hull(views, box, grid_shape(box, 32))
    settings = FitSettings(resolution=48, points=1e7, batch_samples=60_000)
    return fit_radiance(views, box, occupied, settings, Progress(), torch.device("cpu"))


def test_hull_box_holds_the_ball_tightly(views: list[View]) -> None:
    box = hull_box(views, np.array([[-1.5] * 3, [1.5] * 3]))
    assert (box[0] < -RADIUS).all() and (box[1] > RADIUS).all()
    assert (
        box[1] - box[0]
    ).max() < 2 * RADIUS * 1.35  # the hull of pictures within 0.9 rad of the equator bulges at the poles


def test_the_hull_keeps_the_inside_and_drops_what_no_picture_shows(views: list[View]) -> None:
    box = torch.tensor([[-1.5] * 3, [1.5] * 3])
    hull = visual_hull(views, box, (48, 48, 48))
    centres = (torch.stack(torch.meshgrid(*[torch.arange(48)] * 3, indexing="ij"), -1) + 0.5) / 16 - 1.5
    distance = centres.norm(dim=-1)
    assert hull[distance < RADIUS].all()
    assert not hull[distance > 1.3].any()  # the tips reach 0.97, and 4 px of margin 1.2


def test_a_fine_cell_takes_the_coarse_cell_around_it() -> None:
    coarse = torch.zeros(2, 2, 2, dtype=torch.bool)
    coarse[1, 0, 1] = True
    fine = refine(coarse, (4, 4, 4))
    assert fine.sum() == 8 and fine[2:, :2, 2:].all()


def test_pictures_from_new_cameras(field: SparseGrid) -> None:
    errors = []
    for azimuth, elevation in ((0.4, 0.0), (2.7, 0.6), (4.4, -0.5)):
        true = ball_view(looking_at_origin(azimuth, elevation))
        rgb, alpha, depth = render_field(field, true.camera)
        assert true.mask is not None
        errors.append(np.square(rgb - true.rgb * true.mask[..., None]).mean())
        middle = depth[32, 32]
        assert middle == pytest.approx(3.0 - RADIUS, abs=0.09)  # three cells
        assert np.abs((alpha > 0.5) ^ (true.mask > 0.5)).mean() < 0.02
    assert -10 * np.log10(np.mean(errors)) > 28.0


def test_the_same_seed_gives_the_same_field(views: list[View], field: SparseGrid) -> None:
    box = hull_box(views, np.array([[-1.5] * 3, [1.5] * 3]))
    occupied = visual_hull(views, box, grid_shape(box, 32))
    settings = FitSettings(resolution=48, points=1e7, batch_samples=60_000)
    again = fit_radiance(views, box, occupied, settings, Progress(), torch.device("cpu"))
    assert torch.equal(again.table, field.table)


def test_fused_distances_are_signed_and_survive_the_file(
    field: SparseGrid, views: list[View], tmp_path: Path
) -> None:
    fused = fuse(field, views, Progress())
    directions = torch.nn.functional.normalize(
        torch.randn(500, 3, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    assert (fused.geometry(directions * 0.85 * RADIUS) < 0).float().mean() > 0.97
    assert (fused.geometry(directions * 1.12 * RADIUS) > 0).float().mean() > 0.98
    assert float(fused.geometry(torch.zeros(1, 3))) < 0
    colours = fused.appearance(directions * RADIUS, normals=directions)
    assert (colours - (directions * 0.4 + 0.5)).abs().mean() < 0.04
    fused.save(tmp_path / "field.safetensors")
    again = load_field(tmp_path / "field.safetensors")
    assert isinstance(again, FusedField)
    points = directions * RADIUS
    assert torch.allclose(again.geometry(points), fused.geometry(points), atol=2e-3 * fused.cell)
    assert torch.allclose(again.appearance(points, normals=directions), colours, atol=5e-3)


def test_the_floor_cuts_the_object_off(field: SparseGrid, views: list[View]) -> None:
    fused = fuse(field, views, Progress(), floor=torch.tensor([0.0, 0.0, 1.0, 0.2]))  # z = -0.2
    assert float(fused.geometry(torch.tensor([[0.0, 0.0, -0.3]]))) > 0
    assert float(fused.geometry(torch.tensor([[0.0, 0.0, -0.1]]))) < 0


def test_a_region_in_the_world_becomes_a_box_in_the_frame() -> None:
    world = np.eye(4)
    world[:3, :3] = 2 * np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    world[:3, 3] = 1, 0, 0
    # x' = 1 - 2y, y' = 2x: world box (1, 0, 0)..(3, 4, 2) is x in 0..2, y in -1..0, z in 0..1.
    cube = region_cube((1, 0, 0, 3, 4, 2), world)
    assert np.allclose(box_around(cube), [[0, -1, 0], [2, 0, 1]])
    placed = np.diag([2.0, 4.0, 2.0, 1.0])  # the same box as a matrix
    placed[:3, 3] = 2, 2, 1
    assert np.allclose(region_cube(tuple(placed.ravel()), world), cube)
