# SPDX-License-Identifier: GPL-3.0-or-later
"""A known mesh seen by a known camera: the camera is found again from the silhouette."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from maquette.core.cameras.orbit import Orbit, centred
from maquette.core.cameras.rotations import angle_deg, from_axis_angle
from maquette.core.errors import InputError
from maquette.core.poses.silhouette_camera import SilhouetteSettings, fit_camera
from maquette.core.render.rasterize import rasterize
from maquette.core.types import Camera


def body() -> tuple[np.ndarray, np.ndarray]:
    """A box with a head, a post and an arm: no two directions show it alike."""
    parts = [
        trimesh.creation.box((0.6, 0.4, 0.3)),
        trimesh.creation.icosphere(2, 0.22).apply_translation((0.25, -0.1, 0.3)),
        trimesh.creation.cylinder(0.05, 0.5).apply_translation((-0.2, 0.1, 0.3)),
        trimesh.creation.box((0.1, 0.5, 0.1)).apply_translation((0.3, 0.3, -0.1)),
    ]
    mesh = trimesh.util.concatenate(parts)
    return mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)


def looking(
    azimuth: float, elevation: float, distance: float, focal: float, roll: float = 0.0, aside: float = 0.0
) -> Camera:
    a, e = np.radians([azimuth, elevation])
    back = np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])
    right = np.array([np.cos(a), np.sin(a), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, -np.cross(back, right), -back], 1) @ from_axis_angle(
        [aside, -aside, np.radians(roll)]
    )
    pose[:3, 3] = distance * back
    return Camera("photo", 400, 300, focal, focal, 200.0, 150.0, pose)


def silhouette(vertices: np.ndarray, faces: np.ndarray, camera: Camera) -> np.ndarray:
    return (rasterize(torch.from_numpy(vertices), torch.from_numpy(faces), camera).face.numpy() >= 0).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("true", "start"),
    [
        (looking(25, 20, 2.6, 520, roll=4, aside=0.03), looking(18, 8, 2.0, 380)),
        (looking(-5, 35, 3.5, 700, roll=-3), looking(0, 20, 2.2, 400)),
        (looking(100, -8, 1.6, 280, aside=-0.05), looking(95, 5, 2.2, 400)),
    ],
)
def test_the_camera_of_a_silhouette_is_found_again(true: Camera, start: Camera) -> None:
    vertices, faces = body()
    mask = silhouette(vertices, faces, true)
    fit = fit_camera(vertices, faces, mask, start, SilhouetteSettings(tie=0.0005))  # the mesh is exact
    error = float(angle_deg(fit.camera.cam_to_world[:3, :3].T @ true.cam_to_world[:3, :3]))
    distance = float(np.linalg.norm(fit.camera.centre) / np.linalg.norm(true.centre))
    print(f"IoU {fit.start_iou:.3f} -> {fit.iou:.4f}, {error:.2f} degrees, distance x {distance:.3f}")
    assert fit.iou >= 0.98
    assert error < 3.0
    assert 0.8 < distance < 1.25


def test_a_coarse_search_finds_a_camera_from_far_off() -> None:
    vertices, faces = body()
    true = looking(60, 35, 2.5, 500)
    settings = SilhouetteSettings(
        azimuths=(-60, -30, 0, 30, 60), elevations=(0, 30), sigma_azimuth=60, sigma_elevation=40
    )
    fit = fit_camera(vertices, faces, silhouette(vertices, faces, true), looking(0, 0, 2.5, 500), settings)
    assert fit.iou >= 0.97
    assert angle_deg(fit.camera.cam_to_world[:3, :3].T @ true.cam_to_world[:3, :3]) < 5


def test_an_object_that_the_picture_cuts_off_is_compared_where_the_picture_is() -> None:
    vertices, faces = body()
    true = looking(20, 15, 2.0, 700, aside=0.12)
    mask = silhouette(vertices, faces, true)
    assert mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    fit = fit_camera(vertices, faces, mask, looking(15, 10, 2.0, 620, aside=0.1))
    assert fit.iou >= 0.97


def test_zero_numbers_are_the_start_and_the_middle_keeps_the_place() -> None:
    camera, anchor = looking(10, 20, 2.0, 400, aside=0.1), np.array([0.1, 0.0, 0.05])
    orbit = Orbit.of(camera, anchor, 0.5)
    np.testing.assert_allclose(orbit.camera(np.zeros(7)).cam_to_world, camera.cam_to_world, atol=1e-12)
    raised = orbit.camera(np.array([0, 0, 0, 0, 0.2, 0, 0]))
    assert raised.centre[2] > camera.centre[2]
    for one in (raised, orbit.camera(np.array([0, 0, 0, 0.3, 0, 0.1, 0.4]))):
        np.testing.assert_allclose(one.project(anchor[None])[0][0], orbit.pixel, atol=1e-9)
    shifted = Camera(**{**vars(camera), "cx": 120.0, "cy": 200.0})
    middle = centred(shifted, anchor)
    assert (middle.cx, middle.cy) == (200.0, 150.0)
    np.testing.assert_allclose(middle.project(anchor[None])[0], shifted.project(anchor[None])[0], atol=1e-9)


def test_an_empty_mask_and_a_camera_that_looks_away_are_told() -> None:
    vertices, faces = body()
    with pytest.raises(InputError, match="empty"):
        fit_camera(vertices, faces, np.zeros((30, 40), np.float32), looking(0, 0, 2, 400))
    away = looking(0, 0, 2, 400)
    away.cam_to_world[:3, 3] *= -1
    with pytest.raises(InputError, match="behind"):
        fit_camera(vertices, faces, np.ones((30, 40), np.float32), away)
