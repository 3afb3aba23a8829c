# SPDX-License-Identifier: GPL-3.0-or-later
"""What convicts a wrong camera: matches, photos, the other mapper. And what places it again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from maquette.core.cameras import rotations
from maquette.core.poses.candidate import CHANCE
from maquette.core.poses.grading import disagreement
from maquette.core.poses.match_check import check_matches, epipolar_px, find_blocks
from maquette.core.poses.photo_check import CheckView, check_photos
from maquette.core.poses.resection import add_images
from maquette.core.poses.sfm_process import Pair
from maquette.core.poses.sparse_model import SparseModel

from .conftest import look_at


def evidence(model: SparseModel) -> tuple[list[Pair], dict[str, np.ndarray]]:
    """All true matches between the images, and feature lists (feature number = point number)."""
    keypoints = {}
    seen = []
    for number, name in enumerate(model.images):
        mine = model.image_of == number
        points = np.zeros((len(model.points), 2), np.float32)
        points[model.feature_of[mine]] = model.pixels[mine]
        keypoints[name] = points
        seen.append(set(model.feature_of[mine].tolist()))
    pairs = []
    for a in range(len(seen)):
        for b in range(a + 1, len(seen)):
            common = np.array(sorted(seen[a] & seen[b]), np.int32)
            if len(common) >= 20:
                pairs.append(
                    Pair(model.images[a], model.images[b], "CALIBRATED", np.stack([common, common], 1))
                )
    return pairs, keypoints


def moved(model: SparseModel, images: list[int]) -> SparseModel:
    """These images turned together by 40 degrees about z through the origin: a block folded onto another place."""
    poses = model.poses.copy()
    turn = np.eye(4)
    turn[:3, :3] = rotations.from_axis_angle([0, 0, np.radians(40)])
    for number in images:
        poses[number] = (np.vstack([poses[number], [0, 0, 0, 1]]) @ turn)[:3]
    return replace(model, poses=poses)


def test_epipolar_distance_by_hand() -> None:
    # Two cameras side by side: epipolar lines are rows. A row's difference of 0.01 is shared by both pictures.
    pose_b = np.hstack([np.eye(3), [[-1.0], [0], [0]]])
    distance = epipolar_px(np.eye(4)[:3], pose_b, np.array([[0.1, 0.2]]), np.array([[-0.3, 0.21]]))
    assert distance[0] == pytest.approx(0.01 / np.sqrt(2))


def test_right_model_passes(ring: SparseModel) -> None:
    check = check_matches(ring, *evidence(ring))
    assert check.share.min() > 0.99 and check.explained > 0.99 and check.misplaced == set()


def test_single_misplaced_image_is_found(ring: SparseModel) -> None:
    assert check_matches(moved(ring, [4]), *evidence(ring)).misplaced == {4}


def test_folded_block_is_found_though_it_agrees_within_itself(ring: SparseModel) -> None:
    check = check_matches(moved(ring, [0, 1, 2, 3]), *evidence(ring))
    assert check.misplaced == {0, 1, 2, 3}


def test_weak_false_pairs_do_not_split_a_right_model() -> None:
    edges = [(i, i + 1, 300, 1.0) for i in range(5)] + [(0, 5, 90, 0.05), (1, 4, 60, 0.0)]
    assert find_blocks(6, edges).tolist() == [0] * 6


def test_strong_contradiction_splits_and_the_larger_part_is_first() -> None:
    edges = [(0, 1, 300, 1.0), (2, 3, 300, 1.0), (3, 4, 300, 1.0), (1, 2, 250, 0.05), (0, 4, 40, 0.9)]
    assert find_blocks(5, edges).tolist() == [1, 1, 0, 0, 0]


def test_one_false_pair_of_sides_that_look_alike_does_not_split_what_two_weak_ones_join() -> None:
    edges = [(0, 1, 300, 1.0), (1, 2, 300, 0.9), (3, 4, 200, 1.0), (2, 3, 50, 0.9), (1, 3, 42, 0.8)]
    assert find_blocks(5, [*edges, (0, 4, 340, 0.01)]).tolist() == [0] * 5
    assert find_blocks(5, [*edges, (0, 4, 340, 0.01), (1, 4, 200, 0.0)]).tolist() == [0, 0, 0, 1, 1]


def test_image_is_placed_again(ring: SparseModel) -> None:
    pairs, keypoints = evidence(ring)
    left = ring.without({2, 7})
    again = add_images(left, {ring.images[2]: 0, ring.images[7]: 0}, pairs, keypoints, seed=0)
    assert sorted(again.images) == ring.images
    assert disagreement(again, ring).max() < 0.01


def test_image_without_common_points_is_not_placed(ring: SparseModel) -> None:
    pairs, keypoints = evidence(ring)
    strangers = [pair for pair in pairs if ring.images[2] not in (pair.a, pair.b)]
    assert len(add_images(ring.without({2}), {ring.images[2]: 0}, strangers, keypoints, 0).images) == 11


def test_disagreement_points_at_the_wrong_camera(ring: SparseModel) -> None:
    difference = disagreement(moved(ring, [5]), ring)
    assert difference[5] == pytest.approx(40, abs=1e-6) and np.delete(difference, 5).max() < 1e-6


def plane_views(count: int = 5) -> list[CheckView]:
    """Pictures of a textured plane z = 0 from a row of cameras above it."""
    random = np.random.default_rng(0)
    texture = random.uniform(0, 1, (80, 80))
    for _ in range(2):
        texture = 0.25 * (
            texture + np.roll(texture, 1, 0) + np.roll(texture, 1, 1) + np.roll(texture, (1, 1), (0, 1))
        )
    texture = (texture - texture.min()) / np.ptp(texture)
    matrix = np.array([[120.0, 0, 64], [0, 120.0, 48], [0, 0, 1]])
    views = []
    for number in range(count):
        centre = np.array([0.5 * (number - count // 2), -1.0, 3.0])
        pose = np.linalg.inv(look_at(centre, np.zeros(3), np.array([0, 1.0, 0])))[:3]
        y, x = np.mgrid[:96, :128] + 0.5
        rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(matrix).T @ pose[:, :3]
        hit = centre - rays * (centre[2] / rays[..., 2:])
        u, v = (hit[..., 0] * 16 + 40) % 79, (hit[..., 1] * 16 + 40) % 79
        i, j = v.astype(int), u.astype(int)
        a, b = v - i, u - j
        grey = (
            (1 - a) * (1 - b) * texture[i, j] + (1 - a) * b * texture[i, j + 1]
            + a * (1 - b) * texture[i + 1, j] + a * b * texture[i + 1, j + 1]
        )  # fmt: skip
        others = sorted((k for k in range(count) if k != number), key=lambda k: abs(k - number))
        views.append(CheckView(grey.astype(np.float32), matrix, pose, 2.0, 5.0, others))
    return views


def test_photos_of_a_plane_agree_with_their_cameras_and_not_with_others() -> None:
    views = plane_views()
    right = check_photos(views)
    assert right.min() > 0.6
    turned = rotations.from_axis_angle([0, 0, np.radians(25)]) @ views[2].pose
    wrong = check_photos([*views[:2], replace(views[2], pose=turned), *views[3:]])
    assert wrong[2] < CHANCE + 0.01


def test_picture_without_texture_is_not_judged() -> None:
    views = plane_views()
    views[0] = replace(views[0], grey=np.full_like(views[0].grey, 0.5))
    assert np.isnan(check_photos(views)[0])
