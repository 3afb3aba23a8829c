# SPDX-License-Identifier: GPL-3.0-or-later
"""A ball cut by a box that stands askew: exactly the cap that the box leaves, whatever kind of field the ball is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maquette.core.cameras.rotations import from_axis_angle
from maquette.core.errors import InputError
from maquette.core.fields.cut import CutField
from maquette.core.progress import Progress
from maquette.core.surface.clean import areas_and_volumes
from maquette.core.surface.extract import ExtractSettings, extract_surface


class Ball:
    """Radius 1 around the origin."""

    channels, has_geometry, has_appearance = 3, True, False
    box = torch.tensor([[-1.1] * 3, [1.1] * 3])
    appearance = None

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.level = {"signed_distance": 0.0, "density": 10.0, "occupancy": 0.5}[kind]

    def geometry(self, points):
        radius = points.norm(dim=1)
        if self.kind == "signed_distance":
            return radius - 1
        return self.level + (1 - radius) * 20 * self.level


@pytest.mark.parametrize("kind", ["signed_distance", "density", "occupancy"])
def test_a_ball_becomes_a_cap(kind):
    # A box with its lower face 0.2 from the middle, turned, and wide enough not to touch elsewhere.
    cube = np.eye(4)
    cube[:3, :3] = from_axis_angle([0.3, 0.5, -0.2]) @ np.diag([3.0, 3.0, 2.0])
    cube[:3, 3] = from_axis_angle([0.3, 0.5, -0.2]) @ [0, 0, 1.2]
    mesh = extract_surface(CutField(Ball(kind), cube), ExtractSettings(resolution=96), Progress())
    local = (mesh.vertices - cube[:3, 3]) @ np.linalg.inv(cube[:3, :3]).T
    assert np.abs(local).max() < 0.5 + 2e-3  # a fifth of a cell at the rim
    flat = np.abs(local[:, 2] + 0.5) < 2e-3
    assert flat.mean() > 0.2  # closed along the face
    volume = areas_and_volumes(mesh)[1].sum()
    assert volume == pytest.approx(np.pi * 0.8**2 * (3 - 0.8) / 3, rel=0.01)  # cap of height 0.8


def test_a_box_elsewhere_is_said():
    cube = np.eye(4)
    cube[:3, 3] = 5
    with pytest.raises(InputError) as caught:
        CutField(Ball("density"), cube)
    assert caught.value.code == "REGION_OUTSIDE"
