# SPDX-License-Identifier: GPL-3.0-or-later
"""Grades of cameras: which single number takes a camera that all else speaks for from good to doubtful."""

import numpy as np
import pytest
from maquette.core.poses.bundle_adjustment import Adjusted
from maquette.core.poses.candidate import Candidate
from maquette.core.poses.grading import Evidence, grade_cameras
from maquette.core.poses.match_check import MatchCheck
from maquette.core.poses.sparse_model import SparseModel
from maquette.core.types import DOUBTFUL, GOOD

COUNT = 4


def candidate(focal_sigma: float = 0.002, photo: float = 0.5, share: float = 0.9) -> Candidate:
    """Four images of one lens of 800 pixels; nothing that grades do not read is filled in."""
    model = SparseModel(
        images=[f"g0/{i}.png" for i in range(COUNT)],
        poses=np.tile(np.eye(3, 4), (COUNT, 1, 1)),
        lens_of_image=np.zeros(COUNT, np.int32),
        lenses=np.array([[800.0, 800.0, 320.0, 240.0, 0, 0, 0, 0]]),
        points=np.zeros((0, 3)),
        colors=np.zeros((0, 3), np.uint8),
        image_of=np.zeros(0, np.int32),
        point_of=np.zeros(0, np.int32),
        feature_of=np.zeros(0, np.int32),
        pixels=np.zeros((0, 2)),
    )
    lens = np.zeros((1, 8))
    lens[0, 0] = 800.0 * focal_sigma
    adjusted = Adjusted(model, 0.2, np.full(COUNT, 0.3), np.full(COUNT, 0.01), lens)
    block = np.zeros(COUNT, np.int64)
    matches = MatchCheck(np.full(COUNT, share), np.full(COUNT, 3), block, 1.0, 500)
    return Candidate(model, adjusted, matches, np.full(COUNT, photo))


def evidence(points: int = 300, agreement: float = 0.2) -> Evidence:
    full = np.ones(COUNT)
    return Evidence(full.astype(int) * points, 0.3 * full, 30 * full, 0.3 * full, agreement * full)


def test_all_numbers_in_order():
    assert grade_cameras(candidate(), evidence(), "A") == [(GOOD, "")] * COUNT


@pytest.mark.parametrize(
    ("one", "other", "word"),
    [
        (candidate(focal_sigma=0.02), evidence(), "focal length"),
        (candidate(), evidence(points=12), "12 points"),
        (candidate(), evidence(agreement=1.7), "two methods"),
        (candidate(share=0.5), evidence(), "contradict"),
        (candidate(photo=0.02), evidence(), "do not agree"),
        # One mapper alone: the photos are the second witness only where many points hold the camera, as on no bare object.
        (candidate(), evidence(points=60, agreement=np.nan), "only one method"),
        (candidate(photo=0.2), evidence(agreement=np.nan), "only one method"),
    ],
)
def test_what_makes_a_camera_doubtful(one, other, word):
    for grade, reason in grade_cameras(one, other, "A"):
        assert grade == DOUBTFUL and word in reason


def test_the_photos_stand_in_for_the_other_mapper_where_many_points_hold_the_camera():
    assert grade_cameras(candidate(), evidence(agreement=np.nan), "B") == [(GOOD, "")] * COUNT
    assert grade_cameras(candidate(), evidence(agreement=np.nan), "C")[0][0] == DOUBTFUL
