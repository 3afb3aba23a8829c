# SPDX-License-Identifier: GPL-3.0-or-later
"""`core.cameras.blender` against Blender's own projection: <= 0.01 px whatever the shape, aspect and centre."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from tests.blender.ball import look_at
from tests.blender.test_results import blender_pixels


@pytest.mark.parametrize("size", [(4032, 3024), (3024, 4032), (2048, 2048), (1000, 999)])
@pytest.mark.parametrize("ratio", [1.0, 1.25, 0.8])
def test_projection(size, ratio, module, scene):
    """Random poses, focal lengths of 0.6 to 4 picture widths, centres up to 10 % off; float32 is Blender's own limit."""
    types, cameras, results = module("core.types"), module("operators.cameras"), module("core.results")
    rng = np.random.default_rng(size[0] + int(100 * ratio))
    points = rng.normal(size=(100, 3))
    for _ in range(8):
        width, height = size
        focal = width * rng.uniform(0.6, 4.0)
        centre = rng.uniform(-0.1, 0.1, 2) * size + np.array(size) / 2
        pose = look_at(rng.normal(size=3) * 4 + [0, 9, 0], turn=rng.uniform(-3, 3))
        given = types.Camera("p.jpg", width, height, focal * ratio, focal, *centre, pose)
        data = bpy.data.cameras.new("p")
        camera = bpy.data.objects.new("p", data)
        scene.collection.objects.link(camera)
        item = results.SceneCamera(given, given)
        cameras.fill_camera(camera, item, 10.0)
        cameras.place_camera(camera, None, item)
        cameras.look_through(scene, camera)
        expected, depth = given.project(points)
        near = (depth > 1) & (np.abs(expected - centre).max(1) < 2 * max(size))
        assert near.sum() > 50
        assert np.abs(blender_pixels(scene, camera, points) - expected)[near].max() <= 0.01
        back = cameras.read_camera(camera)
        assert np.abs(back.project(points)[0] - expected)[near].max() <= 0.01
