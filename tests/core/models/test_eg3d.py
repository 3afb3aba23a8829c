# SPDX-License-Identifier: GPL-3.0-or-later
"""EG3D: equal to the plain reading of its paper, differentiable, a field with a known surface, cameras that agree."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from maquette.core.fields.triplane import magnified
from maquette.core.models.eg3d import cameras
from maquette.core.models.eg3d import planes as reading
from maquette.core.models.eg3d.configuration import (
    SUPER_RESOLUTION,
    Eg3dConfig,
    RenderingConfig,
    SuperResolutionConfig,
    widths,
)
from maquette.core.models.eg3d.encoder import EncoderConfig, PoseEncoder, labels_of
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.eg3d.planes import BentSampler, sampler_of
from maquette.core.models.eg3d.rays import Draws, camera_rays, coarse_depths
from maquette.core.models.eg3d.views import head_views, labels_around
from maquette.core.models.stored_field import load_field
from maquette.core.surface.bake import BakeSettings, bake_texture
from maquette.core.surface.extract import ExtractSettings, extract_surface
from maquette.core.surface.uv import UvSettings, unwrap
from torch import Tensor

from tests.reference import plain_eg3d as plain

SMALL = Eg3dConfig(
    8, 12, embed_width=6, mapping_widths=(10, 12), channels=(8, 8, 8, 6), plane_features=5, decoder_hidden=7,
    neural_resolution=12, superresolution=SuperResolutionConfig(16, (True, False), (6, 4)),
    rendering=RenderingConfig(depth_resolution=12, depth_resolution_importance=10),
)  # fmt: skip


def network(config: Eg3dConfig = SMALL) -> Eg3d:
    torch.manual_seed(0)
    made = Eg3d(config).eval().requires_grad_(False)
    for name, tensor in made.state_dict().items():
        if name.endswith(("noise_strength", "bias")) and "affine" not in name:
            tensor.copy_(torch.randn_like(tensor) * 0.3)
    made.backbone.mapping.w_avg.normal_()
    return made


def label(yaw: float = 0.2) -> Tensor:
    return torch.from_numpy(cameras.label_of(cameras.look_at(math.pi / 2 + yaw, 1.4, (0, 0, 0.2), 2.7)))[None]


@pytest.mark.parametrize("items", [1, 3])
@pytest.mark.parametrize("white", [False, True])
def test_equals_the_plain_reading(items: int, white: bool) -> None:
    made = network(replace(SMALL, rendering=replace(SMALL.rendering, white_back=white)))
    ws = torch.randn(items, SMALL.rows, 12)  # rows that differ, so that each has to reach its layer
    labels = torch.cat([label(0.1 * i) for i in range(items)])
    planes = made.planes(ws)
    torch.testing.assert_close(
        planes.flatten(1, 2), plain.planes(made, ws).flatten(1, 2), rtol=1e-5, atol=1e-5
    )
    rendered = made.render(planes, labels)
    features, depth = plain.render(made, planes, labels, 12)
    torch.testing.assert_close(rendered.features, features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rendered.depth, depth, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made(ws, labels), plain.picture(made, ws, labels, 12), rtol=1e-4, atol=1e-4)


def test_bent_planes_read_where_the_shift_leads() -> None:
    """A ramp along x, shifted by one plane's half, by another's number and not by the third: the mean counts, times the factor."""
    side, bend = 16, 0.1
    middle = (torch.arange(side) + 0.5) / side * 2 - 1  # of the texels, box -1..1
    planes = torch.zeros(3, 4, side, side)
    planes[0, 0], planes[1, 0], planes[0, 2] = 0.5, 1.0, 3.0  # x by 0.05, z by 0.1
    planes[0, 3] = middle  # xy: along x
    planes[1, 3] = middle[:, None]  # xz: rows are z
    points = (torch.rand(50, 3) - 0.5) * 1.5
    sampler = sampler_of(planes, ((0, 1), (0, 2), (2, 1)), 2.0, bend)
    assert isinstance(sampler, BentSampler)
    torch.testing.assert_close(sampler.shift(points), torch.tensor([[0.05, 0, 0.1]]).expand(50, -1))
    wanted = (points[:, 0] + 0.05 + points[:, 2] + 0.1) / 3
    torch.testing.assert_close(sampler(points)[:, 0], wanted)


def test_a_fovea_spreads_its_place_and_keeps_the_ends() -> None:
    """Each axis is an inverse hyperbolic sine between its ends; in the middle its slope is 1 / (width times the whole span)."""
    fovea, side = ((0.0, 0.1), (0.2, 0.14), (-0.3, 0.5)), 2.0
    ends = torch.tensor([[-1.0] * 3, [1.0] * 3])
    torch.testing.assert_close(magnified(ends, fovea, side), ends)
    middle = torch.tensor([[axis[0] * side for axis in fovea]])
    for number, (place, width) in enumerate(fovea):
        span = math.asinh((0.5 - place) / width) - math.asinh((-0.5 - place) / width)
        step = torch.zeros(1, 3)
        step[0, number] = 1e-3
        moved = magnified(middle + step, fovea, side) - magnified(middle - step, fovea, side)
        assert float(moved[0, number]) / 2e-3 == pytest.approx(1 / (width * span), rel=1e-3)
    points = torch.rand(20, 3) * 2 - 1
    assert magnified(points, (), side) is points
    order = magnified(points, fovea, side).argsort(0)
    torch.testing.assert_close(order, points.argsort(0))  # nothing folds


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_ways_back_of_reading_planes(dtype: torch.dtype) -> None:
    """Against the plain sum over a table's rows; places repeat, and one row is never read."""
    table = torch.randn(9, 5).to(dtype).requires_grad_(True)
    places, weights = torch.randint(0, 8, (40, 4)), torch.rand(40, 4).to(dtype).requires_grad_(True)
    plain = (table[places] * weights[..., None]).sum(1)
    slope = torch.randn(40, 5).to(dtype)
    wanted = torch.autograd.grad(plain, (table, weights), slope)
    exact = 0.1 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(
        reading.scattered(slope, places, weights, 9), wanted[0], atol=exact, rtol=exact
    )
    torch.testing.assert_close(reading.products(slope, table, places), wanted[1], atol=exact, rtol=exact)
    assert float(reading.scattered(slope, places, weights, 9)[8].abs().max()) == 0


def test_points_outside_the_box_read_zeros() -> None:
    made = network()
    planes = torch.randn(3, 5, 32, 32)
    points = torch.tensor([[0.7, 0.0, 0.0], [3.0, 3.0, 3.0], [0.499, -0.499, 0.499], [-90.0, 0.1, 0.1]])
    sigma, colours = made.query(planes, points)
    expected, expected_colours = plain.query(made, planes[None], points[None])
    torch.testing.assert_close(sigma, expected[0, :, 0])
    torch.testing.assert_close(colours, expected_colours[0])


def test_large_activations_do_not_overflow() -> None:
    made = network()
    planes = torch.full((3, 5, 32, 32), 1e4)
    points = torch.zeros(4, 3)
    torch.testing.assert_close(
        made.query(planes, points)[0], plain.query(made, planes[None], points[None])[0][0, :, 0]
    )


@pytest.mark.parametrize("items", [1, 2])
def test_gradients_are_those_of_the_plain_reading(items: int) -> None:
    made = network()
    labels = label().expand(items, -1)
    gradients = []
    for draw in (made, lambda ws, labels: plain.picture(made, ws, labels, 12)):
        ws = torch.randn(
            items, SMALL.rows, 12, generator=torch.Generator().manual_seed(1), requires_grad=True
        )
        with torch.enable_grad():
            (draw(ws, labels) * torch.linspace(-1, 1, 32)).sum().backward()
        gradients.append(ws.grad)
    assert float(gradients[1].abs().max()) > 0.1
    torch.testing.assert_close(*gradients, rtol=2e-3, atol=2e-3 * float(gradients[1].abs().max()))


def test_truncation() -> None:
    made = network()
    z = torch.randn(2, 8)
    full, half = made.mapping(z, label().expand(2, -1)), made.mapping(z, label().expand(2, -1), 0.5, 3)
    mean = made.backbone.mapping.w_avg
    torch.testing.assert_close(half[:, :3], (full[:, :3] + mean) / 2)
    assert torch.equal(half[:, 3:], full[:, 3:])
    torch.testing.assert_close(made.mapping(z, label().expand(2, -1), 0.0), mean.expand(2, SMALL.rows, -1))


def test_without_noise_and_draws_pictures_repeat_and_with_them_they_do_not() -> None:
    made, ws = network(), torch.randn(1, SMALL.rows, 12)
    assert torch.equal(made(ws, label()), made(ws, label()))
    assert not torch.equal(made.planes(ws, "random"), made.planes(ws, "random"))
    assert not torch.equal(made.planes(ws), made.planes(ws, "none"))
    draws = Draws.random(SMALL.rendering, 1, 144, torch.Generator().manual_seed(0))
    planes = made.planes(ws)
    gap = (
        (made.render(planes, label(), draws=draws).features - made.render(planes, label()).features)
        .abs()
        .max()
    )
    assert 1e-4 < float(gap) < 1.0


@pytest.mark.parametrize("name", SUPER_RESOLUTION)
def test_every_super_resolution_gives_its_picture(name: str) -> None:
    sizes = {"SuperresolutionHybrid8XDC": 512, "SuperresolutionHybrid8X": 512}
    side = sizes.get(name, 256 if name.endswith("4X") else 128)
    config = replace(SUPER_RESOLUTION[name], widths=(4, 3))
    made = network(replace(SMALL, superresolution=config))
    assert (
        made(torch.randn(1, SMALL.rows, 12), label()).shape == (1, 3, side, side)
        and made.config.picture == side
    )
    if config.upscale_only:
        with pytest.raises(ValueError, match="at most 128"):
            made.superresolution(torch.zeros(1, 5, 130, 130), torch.zeros(1, 12))


def test_half_precision_is_near() -> None:
    made, ws = network(), torch.randn(1, SMALL.rows, 12)
    exact = made(ws, label()).detach()
    made.superresolution.precision = torch.bfloat16
    assert bool((made(ws, label()) == exact).all())  # gradients are taken in float32
    with torch.no_grad():
        rounded = made(ws, label())
    assert rounded.dtype == torch.float32
    assert 0.0 < float((rounded - exact).square().mean().sqrt() / exact.square().mean().sqrt()) < 0.02


def test_the_published_sizes() -> None:
    assert widths(32768, 512, 256) == Eg3dConfig().channels
    with torch.device("meta"):
        made = Eg3d()
    assert sum(p.numel() for p in made.parameters()) == 30_662_136
    assert Eg3dConfig.from_json(SMALL.as_json()) == SMALL


def ball(radius: float = 0.2) -> tuple[Eg3d, Tensor]:
    """Planes whose features are the squares of the coordinates, and a decoder that makes a ball of them, blue above z = 0."""
    made = network(replace(SMALL, rendering=RenderingConfig()))
    line = (torch.arange(32) + 0.5) / 32 - 0.5
    planes = torch.zeros(3, 5, 32, 32)
    planes[0, 0] = line[:, None] ** 2 + line**2  # xy: columns x, rows y
    planes[1, 0] = (line**2)[:, None].expand(32, 32)  # xz: rows z
    planes[1, 1] = line[:, None].expand(32, 32)
    first, last = made.decoder.net[0], made.decoder.net[2]
    for part in (first, last):
        part.weight.zero_()
        part.bias.zero_()
    # softplus(a + 40) = a + 40: density 10 + 2000 (radius^2 - |p|^2), colour from z
    first.weight[0, 0], first.bias[0] = 3 * math.sqrt(5), 40.0
    first.weight[1, 1], first.bias[1] = 3 * math.sqrt(5), 40.0
    last.weight[0, 0], last.bias[0] = -2000 * math.sqrt(7), 10 + 2000 * (radius**2 + 40)
    last.weight[3, 1], last.bias[3] = 100 * math.sqrt(7), -4000.0
    return made, planes


def test_a_field_with_a_known_surface_becomes_a_textured_mesh(tmp_path: Path) -> None:
    made, planes = ball()
    field = made.field(planes, border=0.05)
    torch.testing.assert_close(field.box, torch.tensor([[-0.45] * 3, [0.45] * 3]))
    points = (torch.rand(200, 3) - 0.5) * 0.9
    sigma, colours = made.query(planes, points)
    torch.testing.assert_close(field.geometry(points), F.softplus(sigma - 1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(field.appearance(points), colours[:, :3], rtol=1e-3, atol=1e-3)
    field.save(tmp_path / "field.safetensors")
    again = load_field(tmp_path / "field.safetensors")
    assert torch.equal(again.geometry(points), field.geometry(points)) and torch.equal(again.box, field.box)
    mesh = extract_surface(again, ExtractSettings(resolution=64))
    radii = np.linalg.norm(mesh.vertices, axis=1)
    assert np.abs(radii - 0.2).max() < 0.004  # bilinear squares are off by at most (1/32)^2 / 4
    baked = bake_texture(unwrap(mesh, UvSettings(size=256)), [], again, BakeSettings(size=256))
    assert baked.texture[..., 2].min() < 0.01 and baked.texture[..., 2].max() > 0.99
    views = head_views(made, torch.randn(1, SMALL.rows, 12), planes[None], labels_around(made)[:3])
    assert [view.rgb.shape for view in views] == [(32, 32, 3)] * 3
    pixels, _ = views[1].camera.project(np.zeros((1, 3)) + [0, 0, 0.2])
    np.testing.assert_allclose(pixels, [[16, 16]], atol=1e-3)  # the pivot stands in the middle


def test_depth_and_opacity_of_a_ball() -> None:
    made, planes = ball()
    rendered = made.render(planes[None], label(0.0), 33)
    centre, corner = rendered.depth[0, 0, 16, 16], rendered.opacity[0, 0, 0, 0]
    eye = np.linalg.norm(label(0.0)[0, :16].view(4, 4)[:3, 3].numpy())
    # Density rises as 9 + 800 s behind the surface, so light goes int exp(-9 s - 400 s^2) ds = 0.035 deep.
    assert float(centre) == pytest.approx(eye - 0.2 + 0.035, abs=0.005)
    assert float(rendered.opacity[0, 0, 16, 16]) > 0.99
    assert float(corner) < 0.01


def test_a_warp_moves_what_is_seen() -> None:
    made, planes = ball(0.08)
    warp = torch.eye(4)
    warp[0, 3] = 0.1  # to the right
    plain_view = made.render(planes[None], label(0.0), 32).opacity[0, 0]
    moved = made.render(planes[None], label(0.0), 32, warp=warp).opacity[0, 0]
    columns = torch.arange(32) + 0.5
    centre = [float((view.sum(0) * columns).sum() / view.sum()) for view in (plain_view, moved)]
    depth = float(np.linalg.norm(label(0.0)[0, :16].view(4, 4)[:3, 3].numpy()))
    assert centre[1] - centre[0] == pytest.approx(0.1 / depth * cameras.FOCAL * 32, abs=0.5)
    bigger = made.render(
        planes[None], label(0.0), 32, warp=torch.diag(torch.tensor([1.5, 1.5, 1.5, 1]))
    ).opacity
    assert float(bigger.sum() / plain_view.sum()) == pytest.approx(2.25, rel=0.15)


def test_rays_of_the_box() -> None:
    config = replace(SMALL.rendering, ray_start="auto", ray_end="auto", depth_resolution=5)
    origins = torch.tensor([[0.0, 0, 2], [0, 0, 2], [0, 0, 3]])
    directions = torch.tensor([[0.0, 0, -1], [1, 0, 1e-9], [0, 0, -1]])
    depths = coarse_depths(config, origins, directions, None)
    torch.testing.assert_close(depths[0], torch.linspace(1.5, 2.5, 5))
    torch.testing.assert_close(depths[2], torch.linspace(2.5, 3.5, 5))
    torch.testing.assert_close(depths[1], torch.linspace(1.5, 2.5, 5))  # missed: least and greatest entry
    disparity = replace(
        SMALL.rendering, disparity_space_sampling=True, ray_start=1.0, ray_end=2.0, depth_resolution=3
    )
    torch.testing.assert_close(
        coarse_depths(disparity, origins, directions, None)[0], torch.tensor([1.0, 4 / 3, 2.0])
    )


def test_cameras_agree() -> None:
    """A label as our camera sees the points where its rays go, and stands upright in our world."""
    given = label(0.5)
    origins, directions = camera_rays(given, 8)
    camera = cameras.camera_of(given[0].numpy(), 8)
    pixels, _ = camera.project((origins + 1.7 * directions)[0].double().numpy())
    wanted = np.stack(np.meshgrid(np.arange(8) + 0.5, np.arange(8) + 0.5), -1).reshape(-1, 2)
    np.testing.assert_allclose(pixels, wanted, atol=1e-3)
    np.testing.assert_allclose(cameras.label_from(camera), given[0].numpy(), rtol=1e-6)
    front = cameras.WORLD_FROM_HEAD @ cameras.look_at(math.pi / 2, math.pi / 2, (0, 0, 0), 2.7)
    np.testing.assert_allclose(front[:3, 3], [0, -2.7, 0], atol=1e-6)  # before the front, which is -y
    np.testing.assert_allclose(front[:3, 1], [0, 0, -1], atol=1e-6)  # its y axis points down
    aside = cameras.WORLD_FROM_HEAD @ cameras.look_at(math.pi / 2 + 0.3, math.pi / 2, (0, 0, 0), 2.7)
    assert aside[0, 3] > 0  # positive yaw: the subject's left, the viewer's right


def test_the_encoders_camera_looks_at_the_origin() -> None:
    torch.manual_seed(0)
    encoder = PoseEncoder(EncoderConfig(16, (8, 8, 4), 12, rows=6)).eval()
    found = encoder(torch.randn(2, 3, 16, 16))
    assert found.ws.shape == (2, 6, 12)
    pose = found.label[:, :16].view(-1, 4, 4)
    torch.testing.assert_close(pose[:, :3, 3] + 2.7 * pose[:, :3, 2], torch.zeros(2, 3))
    torch.testing.assert_close(torch.linalg.det(pose[:, :3, :3]), torch.ones(2))
    front = labels_of(torch.tensor([[math.pi, 0.0, 0.0]]))[0, :16].view(4, 4)
    expected = torch.from_numpy(cameras.look_at(math.pi / 2, math.pi / 2, (0, 0, 0), 2.7)).float()
    torch.testing.assert_close(front, expected, atol=1e-5, rtol=0)
