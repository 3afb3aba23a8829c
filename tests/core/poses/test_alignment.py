# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera solved against geometry: the calculus of its steps against projection, and whole solutions on drawn photos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from maquette.core import scene_geometry
from maquette.core.cameras.rotations import angle_deg, from_axis_angle
from maquette.core.errors import InputError
from maquette.core.poses.alignment import align_camera
from maquette.core.poses.alignment_evidence import GUESS, NOTHING, SURE, Evidence, gather_evidence
from maquette.core.poses.alignment_model import Model, fit_light
from maquette.core.poses.alignment_search import by_outline
from maquette.core.poses.alignment_steps import contour_of, motion, moved
from maquette.core.poses.alignment_templates import by_edges
from maquette.core.progress import Progress
from maquette.core.render.rasterize import rasterize
from maquette.core.scene_geometry import SceneGeometry
from maquette.core.types import Camera


def boxes(*parts):
    """Boxes (low, high, sRGB) as one geometry."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], np.int32)
    vertices, all_faces, colors = [], [], []
    for number, (low, high, color) in enumerate(parts):
        vertices.append(np.array(low, np.float32) + corners * (np.array(high) - low).astype(np.float32))
        all_faces.append(faces + 8 * number)
        colors.append(np.full((12, 3, 3), color, np.uint8))
    return SceneGeometry(np.concatenate(vertices), np.concatenate(all_faces), None, np.concatenate(colors))


CHAIR = boxes(
    ((-0.5, -0.5, 0.4), (0.5, 0.5, 0.55), (180, 80, 60)),
    ((-0.5, 0.35, 0.5), (0.5, 0.5, 1.3), (70, 110, 170)),
    ((-0.5, -0.5, 0.0), (-0.35, -0.35, 0.45), (90, 90, 90)),
    ((0.35, -0.5, 0.0), (0.5, -0.35, 0.45), (90, 90, 90)),
    ((-0.5, 0.35, 0.0), (-0.35, 0.5, 0.45), (200, 190, 90)),
    ((0.3, -0.2, 0.5), (0.5, 0.1, 0.9), (220, 220, 210)),
)


def look_at(centre, target=(0, 0, 0.6), focal=420.0, size=(320, 240)):
    centre, target = np.array(centre, float), np.array(target, float)
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = centre
    return Camera("photo.png", *size, focal, focal, size[0] / 2, size[1] / 2, pose)


def photograph(geometry, camera, behind):
    """Two lamps, four samples a pixel, in linear light; `behind` (H, W, 3) or a colour, sRGB."""
    model = Model(geometry)
    shown = model.show(camera.resized(2 * camera.width, 2 * camera.height))
    lamps = ((np.array([0.5, -0.6, 0.7]), 0.7), (np.array([-0.8, -0.2, 0.3]), 0.3))
    light = 0.2 + sum(s * np.clip(shown.normal @ (d / np.linalg.norm(d)), 0, 1) for d, s in lamps)
    lit = shown.albedo * light[..., None]
    alpha = shown.inside.astype(np.float32)[..., None]
    shape = (camera.height, 2, camera.width, 2, -1)
    lit, alpha = lit.reshape(shape).mean((1, 3)), alpha.reshape(shape).mean((1, 3))
    picture = np.clip(lit + (1 - alpha) * np.asarray(behind) ** 2.2, 0, 1) ** (1 / 2.2)
    return picture.astype(np.float32), alpha[..., 0].astype(np.float32)


def clutter(camera, seed=0):
    """Boxes of all colours and sizes."""
    draw = np.random.default_rng(seed)
    out = np.full((camera.height, camera.width, 3), 0.5)
    for _ in range(40):
        x, y = draw.integers(0, camera.width), draw.integers(0, camera.height)
        w, h = draw.integers(10, 90, 2)
        out[y : y + h, x : x + w] = draw.uniform(0.1, 0.9, 3)
    return out


TRUTH = look_at((2.2, -2.9, 1.9))


def errors(found, truth=TRUTH, geometry=CHAIR):
    """(degrees, share of the distance, RMS pixels)."""
    points = geometry.vertices.astype(np.float64)
    away = [np.linalg.norm(camera.centre - [0, 0, 0.65]) for camera in (found, truth)]
    pixels = found.project(points)[0] - truth.project(points)[0]
    turn = float(angle_deg(truth.cam_to_world[:3, :3].T @ found.cam_to_world[:3, :3]))
    return turn, abs(away[0] / away[1] - 1), float(np.sqrt((pixels**2).sum(1).mean()))


@pytest.mark.parametrize("number", range(7))
def test_motion_is_the_slope_of_the_projection(number):
    """Central differences of `moved` and `project`, in all seven numbers."""
    points = np.random.default_rng(0).normal(size=(12, 3)) * 0.4 + [0, 0, 0.6]
    pixels, depth = TRUTH.project(points)
    middle = TRUTH.world_to_cam[:3, :3] @ [0, 0, 0.6] + TRUTH.world_to_cam[:3, 3]
    slope = motion(TRUTH, pixels, depth, middle)[:, :, number]
    step = np.zeros(7)
    step[number] = 1e-5
    ahead, behind = (moved(TRUTH, sign * step, middle).project(points)[0] for sign in (1, -1))
    assert np.allclose(slope, (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-3)


def test_contour_lies_on_the_outline_to_a_fraction_of_a_pixel():
    """A square seen straight on: 2 units at distance 4 with focal length 100 is 50 px wide; its border is at 25 px."""
    square = boxes(((-1, -1, -0.01), (1, 1, 0), (200, 200, 200)))
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = 4.0
    camera = Camera("", 100, 90, 100.0, 100.0, 50.3, 45.2, pose)
    contour = contour_of(Model(square).show(camera), 1.0)
    off = np.abs(contour.pixels - [50.3, 45.2])
    straight = np.sort(off, 1)[:, 0] < 20  # corners are rounded by the blur
    assert straight.sum() > 100
    assert np.abs(off.max(1)[straight] - 25.0).max() < 0.5  # the border of whole pixels, softened
    assert abs(float((off.max(1)[straight] - 25.0).mean())) < 0.25
    outwards = ((contour.pixels - [50.3, 45.2]) * contour.normals).sum(1)
    assert (outwards > 0).all()
    assert np.allclose(contour.depth, 4.0, atol=0.02)


def test_light_is_found():
    """A picture lit by what nine harmonics can say is drawn again as it was."""
    model = Model(CHAIR)
    shown = model.show(TRUTH)
    light = 0.35 + 0.2 * shown.normal[..., 2] + 0.1 * shown.normal[..., 0] * shown.normal[..., 1]
    photo = (np.clip(shown.albedo * light[..., None], 0, 1) ** (1 / 2.2)).astype(np.float32)
    drawn = fit_light(shown, photo, shown.inside)
    assert np.abs(drawn - photo)[shown.inside].max() < 0.01


@pytest.mark.parametrize(
    ("direction", "nearness", "zoom"), [((0.1, 0.2, 1.0), 1.5, 1.2), ((0.3, -1.0, 0.4), 0.6, 0.85)]
)
def test_a_start_55_degrees_off_before_a_plain_wall(direction, nearness, zoom):
    photo, _ = photograph(CHAIR, TRUTH, (0.75, 0.8, 0.7))
    evidence = gather_evidence("photo.png", photo, None, None, Progress())
    assert evidence.trust == SURE
    turn = from_axis_angle(np.radians(55) * np.array(direction) / np.linalg.norm(direction))
    pose = TRUTH.cam_to_world.copy()
    pose[:3, :3] = turn @ pose[:3, :3]
    pose[:3, 3] = nearness * (turn @ pose[:3, 3])
    start = replace(TRUTH, fx=zoom * TRUTH.fx, fy=zoom * TRUTH.fy, cam_to_world=pose)
    found = align_camera(CHAIR, evidence, start)
    degrees, share, pixels = errors(found.camera)
    assert (degrees < 0.5, share < 0.01, pixels < 1.0) == (True, True, True), (degrees, share, pixels)
    assert found.camera.grade == "good", found.camera.reason
    assert found.metrics["silhouette_iou"] > 0.97
    assert found.metrics["reprojection_px"] < 0.5


def test_without_a_mask_before_clutter():
    """Nothing tells the object: edges alone find it."""
    photo, _ = photograph(CHAIR, TRUTH, clutter(TRUTH))
    start = look_at((0.4, -4.4, 1.0), focal=380.0)
    found = align_camera(CHAIR, Evidence(photo, None, NOTHING), start)
    degrees, share, pixels = errors(found.camera)
    assert (degrees < 1.0, share < 0.02, pixels < 1.5) == (True, True, True), (degrees, share, pixels)


def test_a_known_lens_holds():
    photo, alpha = photograph(CHAIR, TRUTH, (0.2, 0.2, 0.2))
    from maquette.core.poses.alignment import AlignmentSettings

    start = look_at((1.5, -3.5, 1.2), focal=300.0)
    settings = AlignmentSettings(focal_px=TRUTH.fx, focal_sigma=0.002)
    found = align_camera(CHAIR, gather_evidence("", photo, alpha, None, Progress()), start, settings)
    assert found.camera.fx == pytest.approx(TRUTH.fx, rel=0.005)
    assert errors(found.camera)[1] < 0.005


def test_a_photo_of_something_else_is_not_good():
    other = boxes(
        ((-0.7, -0.2, 0), (0.7, 0.2, 0.3), (120, 120, 120)),
        ((-0.1, -0.1, 0.3), (0.1, 0.1, 1.4), (150, 60, 60)),
    )
    photo, _ = photograph(other, TRUTH, (0.8, 0.8, 0.8))
    found = align_camera(CHAIR, gather_evidence("", photo, None, None, Progress()), look_at((0, -4, 1)))
    assert found.camera.grade == "doubtful"
    assert found.camera.reason


def test_outline_and_edges_lead_near_the_goal():
    """The best of their starts stands within 15 degrees of the truth, from a start 50 degrees away."""
    photo, alpha = photograph(CHAIR, TRUTH, clutter(TRUTH))
    turn = from_axis_angle([0, 0, np.radians(50)])
    pose = TRUTH.cam_to_world.copy()
    pose[:3, :3], pose[:3, 3] = turn @ pose[:3, :3], turn @ pose[:3, 3]
    start, model = replace(TRUTH, cam_to_world=pose), Model(CHAIR)
    for starts in (
        by_outline(model, Evidence(photo, alpha, SURE), start, 80.0, 12, Progress()),
        by_edges(model, Evidence(photo, None, NOTHING), start, 80.0, 12, Progress()),
    ):
        turns = [angle_deg(TRUTH.cam_to_world[:3, :3].T @ one.camera.cam_to_world[:3, :3]) for one in starts]
        assert min(turns) < 15.0


def test_evidence_says_how_far_it_is_believed():
    photo, alpha = photograph(CHAIR, TRUTH, clutter(TRUTH))
    assert gather_evidence("", photo, alpha, None, Progress()).trust == SURE
    assert gather_evidence("", photo, None, alpha, Progress()).trust == SURE
    assert gather_evidence("", photo, None, None, Progress()).trust in (GUESS, NOTHING)
    assert gather_evidence("", photo, None, None, Progress(), mode="none").mask is None
    small = gather_evidence("", photo, alpha, None, Progress()).resized(100)
    assert small.rgb.shape == (75, 100, 3)
    assert small.mask.shape == (75, 100)


def test_textures_repeat_and_colours_are_drawn(tmp_path):
    """A wall with UVs from 0 to 2 shows a two-colour picture twice; the rest of the geometry has its corner colours."""
    from PIL import Image

    Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8).repeat(64, 0).repeat(32, 1)).save(
        tmp_path / "t.png"
    )
    wall = SceneGeometry(
        np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]], np.float32),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        None,
        np.full((2, 3, 3), 128, np.uint8),
        np.array([[[0, 0], [2, 0], [2, 1]], [[0, 0], [2, 1], [0, 1]]], np.float32),
        np.array([0, 0], np.int16),
        [tmp_path / "t.png"],
    )
    path = scene_geometry.write(tmp_path, wall)
    model = Model(scene_geometry.read(path))
    assert model.has_colours
    shown = model.show(look_at((0, -3, 0), target=(0, 0, 0), focal=200.0, size=(160, 120)))
    row = shown.albedo[60]
    inside = np.flatnonzero(shown.inside[60])
    quarters = [row[inside[int(len(inside) * share)]] for share in (0.12, 0.38, 0.62, 0.88)]
    assert [bool(c[0] > 0.8) for c in quarters] == [True, False, True, False]


def test_broken_files_are_named(tmp_path):
    (tmp_path / "geometry.npz").write_bytes(b"nothing")
    with pytest.raises(InputError) as caught:
        scene_geometry.read(tmp_path / "geometry.npz")
    assert caught.value.code == "MESH_UNREADABLE"
    empty = SceneGeometry(np.zeros((3, 3), np.float32), np.zeros((0, 3), np.int32))
    with pytest.raises(InputError) as caught:
        scene_geometry.read(scene_geometry.write(tmp_path, empty))
    assert caught.value.code == "EMPTY_GEOMETRY"


def test_the_stand_in_has_the_outline():
    camera = look_at((2.2, -2.9, 1.9), focal=80.0, size=(64, 64))
    exact = rasterize(torch.as_tensor(CHAIR.vertices), torch.as_tensor(CHAIR.faces), camera).face.numpy() >= 0
    assert (Model(CHAIR).outline(camera) == exact).mean() > 0.995
