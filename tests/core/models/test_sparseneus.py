# SPDX-License-Identifier: GPL-3.0-or-later
"""One-2-3-45's reconstruction: parity, the dense form of sparse convolutions, cameras, elevation, the field's file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.models.sparseneus.cameras import all_views, in_cube, opencv
from maquette.core.models.sparseneus.elevation import candidate_cameras, estimate, triangulate
from maquette.core.models.sparseneus.field import NeuralSurface
from maquette.core.models.sparseneus.model import SparseNeuS, SparseNeuSConfig
from maquette.core.models.sparseneus.surface import encode, sample_volume
from maquette.core.models.sparseneus.volume import SparseBlock, coarser, cost_volume
from maquette.core.models.stored_field import load_field

from tests.parity_checks.lrm_one2345 import CHECKS
from tests.parity_checks.lrm_run import needs_fixtures, worst
from tests.reference.published_file import filled
from tests.reference.sparse_convolution import coarse_sites, convolve, transposed


@needs_fixtures
@pytest.mark.parametrize("part", ["sparseneus", "one2345_cameras", "one2345_elevation"])
def test_every_array_equals_the_published_one(part: str) -> None:
    assert worst(f"{part}*_expected.safetensors", CHECKS) <= 1.0


@pytest.mark.parametrize("size", [6, 7])
def test_masked_dense_convolutions_equal_sparse_ones(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    mask = (torch.rand(1, 1, size, size, size, generator=generator) < 0.4).float()
    mask[0, 0, :2] = 0  # the lowest active x is 2: coarse cells below it do not exist
    mask[0, 0, 2, 1, 1] = mask[0, 0, -1, -1, -1] = 1
    x = torch.randn(1, 2, size, size, size, generator=generator) * mask
    sites = [tuple(site) for site in mask[0, 0].nonzero().tolist()]
    sparse = {site: x[(0, slice(None), *site)] for site in sites}
    coarse = coarser(mask)
    assert [tuple(site) for site in (2 * coarse[0, 0].nonzero()).tolist()] == coarse_sites(sites, 1)
    for kind, target, step in (("same", mask, 1), ("down", coarse, 2)):
        block = filled(SparseBlock(2, 3, kind), 1)
        block.net[1].forward = lambda y, m, statistics: y * m  # the convolution alone
        dense = block(x, target, "batch")
        expected = convolve(
            sparse, block.net[0].kernel, [tuple(s) for s in (step * target[0, 0].nonzero()).tolist()], 1
        )
        for site, value in expected.items():
            at = tuple(c // step for c in site)
            assert torch.allclose(dense[(0, slice(None), *at)], value, atol=1e-5)
    up = filled(SparseBlock(3, 2, "up"), 2)
    up.net[1].forward = lambda y, m, statistics: y * m
    back = up(dense, mask, "batch")
    for site, value in transposed(expected, up.net[0].kernel, sites, 1).items():
        assert torch.allclose(back[(0, slice(None), *site)], value, atol=1e-5)


def test_levels_of_the_public_volume() -> None:
    # 96 -> 49 -> 25 -> 13, one more than a halving because a cell beyond the border appears.
    mask = torch.ones(1, 1, 96, 1, 1)
    sizes = []
    for _ in range(3):
        mask = coarser(mask)
        sizes.append(mask.shape[2])
    assert sizes == [49, 25, 13]


def test_a_voxel_seen_once_stays_out_and_the_variance_is_that_of_the_views() -> None:
    # Orthographic-like affine: u = x + 1, v = y + 1 in a 3 x 3 picture, depth 1. The third view looks elsewhere.
    affine = torch.eye(4).repeat(3, 1, 1)
    affine[:, :3] = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 1]])
    affine[2, 0, 3] = 100.0
    features = torch.tensor([1.0, 3.0, 7.0]).view(3, 1, 1, 1).expand(3, 1, 3, 3)
    volume, mask = cost_volume(features, affine, (3, 3, 3), 1.0)
    assert mask.sum() == 27
    assert torch.allclose(volume[0, :, 1, 1, 1], torch.tensor([1.0, 2.0]), atol=1e-4)  # var of 1 and 3, mean
    with pytest.raises(InputError) as caught:
        cost_volume(features[1:], affine[1:], (3, 3, 3), 1.0)
    assert caught.value.code == "VIEWS_APART"


def test_the_border_rule_of_the_volume() -> None:
    volume = torch.arange(1.0, 6.0).view(1, 5, 1, 1).expand(1, 5, 5, 5)  # value = x index + 1
    points = torch.tensor([[-0.5, 0.1, 0.1], [-1.0, 0, 0], [1.1, 0.1, 0.1], [1.6, 0.1, 0.1]])
    # indices 1, 0 (zero there), 4.2 (border repeated), 5.2 (outside)
    assert sample_volume(volume, points)[:, 0].tolist() == pytest.approx([2.0, 0.0, 5.0, 0.0])


def test_encoding_interleaves_sine_and_cosine() -> None:
    out = encode(torch.tensor([[0.5, 0.0, 0.0]]), 2)[0]
    expected = [np.sin(0.5), np.cos(0.5), np.sin(1.0), np.cos(1.0)]
    assert out[[3, 6, 9, 12]].tolist() == pytest.approx(expected) and out.shape == (15,)


@pytest.mark.parametrize(
    ("polar", "radius", "middle", "last"),
    [(60, 1.42046, (0, 0.0156, 1.2), "7_3.png"), (90, 1.39429, (0, 0.05074, 1.2), "11_3.png"),
     (110, 1.38053, (0, -0.01076, 1.22204), "11_3.png")],
)  # fmt: skip
def test_the_cube_of_the_published_cameras(
    polar: float, radius: float, middle: tuple[float, ...], last: str
) -> None:
    views = all_views(polar)
    cube = in_cube(views.poses, 0, [0, *range(8, 40)])
    assert views.names[-1] == last
    assert cube.scale[0, 0] == pytest.approx(radius, abs=1e-5)
    assert cube.scale[:3, 3] == pytest.approx(middle, abs=1e-5)
    # The middle of the object, the world's origin, projects to the middle of every picture.
    origin = np.linalg.inv(cube.to_world()) @ [0, 0, 0, 1]
    pixels = cube.affine @ origin
    assert pixels[:, :2] / pixels[:, 2:3] == pytest.approx(np.full((40, 2), 128.0))


def test_elevation_of_synthetic_matches() -> None:
    random = np.random.default_rng(0)
    points = random.uniform(-0.3, 0.3, (60, 3))
    k = np.array([[280.0, 0, 128], [0, 280, 128], [0, 0, 1]])
    seen = []
    for pose in candidate_cameras(77.0):
        local = points @ np.linalg.inv(pose)[:3, :3].T + np.linalg.inv(pose)[:3, 3]
        seen.append((local @ k.T)[:, :2] / local[:, 2:])
    pairs = {
        (i, j): np.column_stack([seen[i], seen[j], np.ones(60)]) for i in range(4) for j in range(i + 1, 4)
    }
    found = estimate(pairs)
    assert found is not None and found.polar_deg == 77
    assert estimate({**pairs, (0, 1): np.zeros((0, 5))}) is None
    p, q = (k @ np.linalg.inv(pose)[:3] for pose in candidate_cameras(77.0)[:2])
    assert triangulate(p, q, seen[0], seen[1]) == pytest.approx(points, abs=1e-9)


def test_opencv_axes_are_their_own_inverse() -> None:
    pose = all_views(60).poses[5]
    assert np.array_equal(opencv(opencv(pose)), pose) and np.array_equal(opencv(pose)[:3, 1], -pose[:3, 1])


def test_the_field_survives_its_file_and_its_gradient_is_a_slope(tmp_path: Path) -> None:
    config = SparseNeuSConfig((6, 6, 6), 2 / 5, (2, 3, 4), 3, 4, (3, 4, 5), 8, 2, 3)
    model = filled(SparseNeuS(config))
    cube = in_cube(all_views(60).poses)
    affine = torch.from_numpy(cube.affine[8:12]).float()
    affine[:, :2] /= 16  # pictures of 16 x 16
    centres = torch.from_numpy(cube.cam_to_world[8:12, :3, 3]).float()
    with torch.no_grad():
        field = model.reconstruct(torch.rand(4, 3, 16, 16), affine, centres)
    field.save(tmp_path / "field.safetensors")
    again = load_field(tmp_path / "field.safetensors")
    assert isinstance(again, NeuralSurface)
    points = torch.rand(50, 3) * 1.6 - 0.8
    assert torch.equal(again.geometry(points), field.geometry(points))
    assert torch.equal(again.appearance(points), field.appearance(points))
    direction = torch.tensor([0.6, 0.0, 0.8])
    numeric = (field.geometry(points + 1e-3 * direction) - field.geometry(points - 1e-3 * direction)) / 2e-3
    assert torch.allclose(field.gradient(points) @ direction, numeric, atol=0.05, rtol=0.05)
