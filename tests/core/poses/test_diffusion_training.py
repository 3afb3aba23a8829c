# SPDX-License-Identifier: GPL-3.0-or-later
"""The diffusion-wrapped field on small scenes: pictures of the grid, read-out, samples, resuming, and an overfit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from maquette.core.errors import Cancelled
from maquette.core.models.stored_field import load_field
from maquette.core.poses.diffusion.cameras import looking_at_origin
from maquette.core.poses.diffusion.encoder import PoseEncoder
from maquette.core.poses.diffusion.estimate import grade_camera, train
from maquette.core.poses.diffusion.pictures import Pictures, local_rays
from maquette.core.poses.diffusion.readout import confidence, picture_psnr, read, refine
from maquette.core.poses.diffusion.sampling import draw, from_noise, orbit_path, spiral_path
from maquette.core.poses.diffusion.settings import DiffusionSettings
from maquette.core.poses.diffusion.survey import survey
from maquette.core.poses.diffusion.training import RADIUS, Trainer, box_half
from maquette.core.poses.diffusion.volume import FOG, Cube, Frustum, Volume
from maquette.core.types import DOUBTFUL, GOOD

from .balls import TINY, three_balls


def quiet(share: float) -> None:
    """Nobody asks."""


def test_an_even_cube_absorbs_by_its_thickness() -> None:
    volume = Volume(Cube(0.5), 8, torch.Generator().manual_seed(0), background=False)
    with torch.no_grad():
        volume.table[:, 0], volume.table[:, 1:] = FOG, 0.25
    # softplus(16 FOG - 4.5) * 250 = 0.711 over a way of one side: the light passes by exp(-0.711).
    optical = 250 * math.log1p(math.exp(16 * FOG - 4.5))
    origin, along = torch.tensor([[-3.0, 0.1, 0.2]]), torch.tensor([[1.0, 0.0, 0.0]])
    with torch.no_grad():
        rgb, opacity = volume.render(origin, along, 16)
        missed = volume.render(torch.tensor([[-3.0, 1.0, 0.0]]), along, 16)
    assert math.isclose(float(opacity), 1 - math.exp(-optical), rel_tol=1e-4)
    assert torch.allclose(rgb, 0.25 * opacity, atol=1e-5)
    assert float(missed[1]) == 0.0


def test_frustum_and_its_inverse() -> None:
    space = Frustum(1.1)
    corners = torch.tensor([[-1.0, -1, -1], [1, 1, 1], [0.2, -0.4, 0.0]])
    places = space.place(corners)
    assert torch.allclose(places[:2, 2], torch.tensor([1.0, 8.0]))
    assert torch.allclose(space.coordinates(places), corners, atol=1e-5)


@pytest.mark.parametrize("space", [Cube(0.8), Frustum(1.1)])
def test_finished_field_is_the_same_scene(space: Cube | Frustum, tmp_path: Path) -> None:
    """A ball in the grid: the sparse field has its colour inside, and nothing outside, also from its file."""
    volume = Volume(space, 40, torch.Generator().manual_seed(0), background=False)
    axis = torch.linspace(-1, 1, 41)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    places = space.place(torch.stack([x, y, z], -1))
    middle = space.place(torch.zeros(3))
    radius = 0.4
    with torch.no_grad():
        volume.table[0, 0] = torch.where((places - middle).norm(dim=-1) < radius, 0.6, -0.5)
        volume.table[0, 1:] = torch.tensor([0.8, 0.4, 0.2]).view(3, 1, 1, 1)
    volume.field().save(tmp_path / "field.safetensors")
    field = load_field(tmp_path / "field.safetensors")
    probes = middle + torch.tensor([[0.0, 0, 0], [0.2, 0, 0], [0, 0, -0.25], [0.6, 0, 0], [0, -0.6, 0]])
    inside = field.geometry(probes) > field.level
    assert inside.tolist() == [True, True, True, False, False]
    assert torch.allclose(field.appearance(probes[:1]), torch.tensor([[0.8, 0.4, 0.2]]), atol=0.01)


def test_depth_of_a_wall() -> None:
    volume = Volume(Cube(1.0), 32, torch.Generator().manual_seed(0), background=False)
    with torch.no_grad():
        volume.table[0, 0] = -0.5
        volume.table[0, 0, :, :, :17] = 1.0  # x <= 0
    depth = volume.depth(torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[-1.0, 0.0, 0.0]]), 128)
    assert abs(float(depth) - 3.0) < 0.1


def test_pictures_of_other_shapes_are_padded() -> None:
    picture = torch.ones(4, 16, 32)
    pictures = Pictures.of([picture], 16, 1.2, True)
    inside = pictures.levels[32][0].view(32, 32, 5)
    assert inside[:8, :, 4].sum() == 0 and inside[8:24, :, 4].min() == 1
    assert inside[24:, :, 3].sum() == 0
    middle = local_rays(32, torch.tensor([16 * 32 + 16]), 1.2)
    assert torch.allclose(middle[0, :2], torch.tensor([0.5 / 32 / 1.2] * 2), atol=1e-5)


def test_untrained_encoder_says_anchors() -> None:
    pictures, _ = three_balls(4)
    trainer = Trainer(pictures, TINY)
    reading = read(trainer)
    anchor = looking_at_origin(torch.tensor(0.0), torch.tensor(math.pi / 8), RADIUS)
    assert torch.allclose(reading.poses.centre, anchor.centre.expand(4, 3), atol=1e-5)
    assert torch.allclose(reading.probability, torch.full((4,), 1 / 8))
    assert torch.allclose(reading.entropy, torch.ones(4), atol=1e-4)
    assert reading.spread_deg.max() < 0.1
    assert sum(p.numel() for p in PoseEncoder(64, 32, 56).parameters()) / 1e6 == pytest.approx(
        3.64, abs=0.1
    )  # spec A.4


def test_confidence_and_grades() -> None:
    pictures, _ = three_balls(4)
    reading = replace(
        read(Trainer(pictures, TINY)), probability=torch.tensor([1.0, 0.5, 1.0, 1.0]),
        spread_deg=torch.tensor([0.0, 0.0, 5.0, 0.0]),
    )  # fmt: skip
    sure = confidence(reading, torch.tensor([30.0, 25.0, 25.0, 15.0]))
    assert torch.allclose(sure, torch.tensor([1.0, 0.5, math.exp(-1), 0.0]))
    assert grade_camera(0.8, 3.0) == (GOOD, "")
    assert grade_camera(0.8, 30.0)[0] == DOUBTFUL and grade_camera(0.3, 3.0)[0] == DOUBTFUL


def test_survey_finds_the_cameras_of_three_balls() -> None:
    """An overfit without an encoder: the turns between cameras come out right (the origin of azimuth is free)."""
    pictures, true = three_balls(24)
    half = box_half(pictures, RADIUS)
    found = survey(pictures, half, RADIUS, 1, torch.Generator().manual_seed(0), quiet)
    offset = torch.atan2(found.poses.centre[:, 1], found.poses.centre[:, 0])
    offset = offset - torch.atan2(true.centre[:, 1], true.centre[:, 0])
    mean = torch.atan2(offset.sin().mean(), offset.cos().mean())
    error = torch.rad2deg((offset - mean + math.pi).remainder(2 * math.pi) - math.pi).abs()
    assert float((error < 15).float().mean()) >= 0.9
    assert found.error < 0.02


def test_refinement_brings_cameras_back() -> None:
    """A field fitted with the true cameras pulls cameras that are 4 degrees off back to within 1.5."""
    pictures, true = three_balls(12)
    trainer = Trainer(pictures, TINY)
    trainer.fixed_side = 32
    trainer.volume.refine(24)
    optimiser = torch.optim.Adam(trainer.volume.parameters(), lr=0.03)
    every = torch.arange(12)
    for _ in range(80):
        loss = trainer.ray_errors(true, every, 64).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    away = true.moved(torch.tensor([0.0, 0.0, math.radians(4), 0.0, 0.0, 0.0]).expand(12, 6), torch.zeros(3))
    back = refine(trainer, away, quiet, steps=100, rays=64)
    assert float(torch.rad2deg(back.angle_to(true)).median()) < 1.5
    assert picture_psnr(trainer, back, 32).mean() > picture_psnr(trainer, away, 32).mean() + 2


def test_training_goes_on_where_it_was_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path))
    pictures, _ = three_balls(6)
    whole = Trainer(pictures, TINY)
    train(whole, quiet)

    def stop(share: float) -> None:
        if share > 0.1 + 0.9 * 0.7:
            raise Cancelled

    ended = Trainer(pictures, TINY)
    with pytest.raises(Cancelled):
        train(ended, stop, "key")
    again = Trainer(pictures, TINY)
    train(again, quiet, "key")
    assert again.step == TINY.steps
    assert torch.equal(again.volume.table, whole.volume.table)
    for one, other in zip(again.encoder.parameters(), whole.encoder.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "settings", [TINY, replace(TINY, survey=False, denoise=False), replace(TINY, orbit=False)]
)
def test_every_mode_trains_and_samples(settings: DiffusionSettings) -> None:
    pictures, _ = three_balls(6)
    if not settings.orbit:
        pictures = replace(pictures, masked=False)
    trainer = Trainer(pictures, replace(settings, steps=8), held_out=(2,))
    before = trainer.volume.table.detach().clone()
    train(trainer, quiet)
    assert trainer.step == 8 and 2 not in trainer.used
    assert before.shape != trainer.volume.table.shape or not torch.equal(before, trainer.volume.table)
    pose, shown = from_noise(trainer, torch.Generator().manual_seed(0), steps=5)
    # A view out of noise is the view from the camera that comes with it (spec A.14, test 5).
    assert torch.allclose(shown, draw(trainer, pose, settings.canvas), atol=1e-5)
    assert torch.isfinite(pose.rotation).all()
    if settings.orbit:
        assert RADIUS * math.exp(-0.25) - 1e-3 <= float(pose.centre.norm()) <= RADIUS * math.exp(0.25) + 1e-3
    poses = read(trainer).poses
    path = orbit_path(poses, 12) if settings.orbit else spiral_path(poses, 12)
    assert torch.allclose(torch.linalg.det(path.rotation), torch.ones(12), atol=1e-4)
