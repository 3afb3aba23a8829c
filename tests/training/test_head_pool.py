# SPDX-License-Identifier: GPL-3.0-or-later
"""What the head generator learns from: density and colour around a head's surface, and heads in other colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from maquette.core.models.heads.codes import codes, groups, settle
from scipy.spatial import cKDTree
from scipy.special import ndtr

from training.heads.coded import LOOK, CodedHeads, other_look
from training.heads.drawing import Layer, Light
from training.heads.makers import Makers
from training.heads.pool import SHIFT, Pool, make_heads
from training.heads.surface import LEAST, LEVEL, MIDDLE, MOST, SKIN, STEEP, Surface, answers
from training.heads.train_bends import make_sketch

PACKS = Path(__file__).parents[3] / "shared/training_packs"
needs_packs = pytest.mark.skipif(not PACKS.is_dir(), reason="needs ../shared/training_packs")
RADIUS = 0.3


def ball() -> Layer:
    """A skull of one colour, its face to +z."""
    mesh = trimesh.creation.icosphere(4, RADIUS)
    faces = np.asarray(mesh.faces, np.int64)

    def paint(face, weights, uv):  # type: ignore[no-untyped-def]
        return np.broadcast_to(np.float32([0.8, 0.4, 0.2, 1]), (len(face), 4))

    vertices = (np.asarray(mesh.vertices) + MIDDLE).astype(np.float32)
    none = np.zeros((len(faces), 3, 2), np.float32)
    return Layer(vertices, faces, none, np.full(len(faces), SKIN, np.uint8), paint, True)


def test_density_is_the_distance_to_the_surface_and_colour_that_of_its_light() -> None:
    layer = ball()
    # Ambient alone: everything has its own colour times 0.5.
    light = Light(
        0.5, 0.0, np.zeros((0, 3), np.float32), np.zeros(0, np.float32), np.zeros(3, np.float32), 0.0
    )
    surface = Surface([layer], np.zeros(len(layer.faces), np.bool_), np.random.default_rng(0))
    samples = surface.samples([layer], light)
    np.testing.assert_allclose(
        samples.colours, np.broadcast_to([0.4, 0.2, 0.1], samples.colours.shape), atol=1e-5
    )
    rng = np.random.default_rng(1)
    way = rng.standard_normal((400, 3))
    way[:, 2] = -np.abs(way[:, 2])  # behind, where colours are not those of the face
    way[:, 1] = np.abs(way[:, 1])  # no camera looks from below
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    height = rng.uniform(-0.02, 0.02, 400)
    points = (MIDDLE + way * (RADIUS + height)[:, None]).astype(np.float32)
    density, colour, weight, _ = answers(samples, surface.sight, points)
    wanted = (LEVEL - STEEP * height).clip(LEAST, MOST)
    assert (
        np.abs(density - wanted).mean() < 0.002 * STEEP
    )  # flat faces, pixels of 0.003, and samples a little apart
    right = ((density > LEVEL) == (height < 0))[np.abs(height) > 0.002]
    assert right.mean() > 0.98  # the rest: what no camera looks at
    assert (weight[np.abs(height) < 0.003] > 0.8).all()  # samples lie 0.005 apart here
    np.testing.assert_allclose(colour, np.broadcast_to([0.4, 0.2, 0.1], colour.shape), atol=1e-5)


def test_shifts_lead_to_the_same_place_on_the_unbent_head() -> None:
    """A ball that was stretched twofold along x: every sample goes back to where it was."""
    layer = ball()
    wide = replace(layer, vertices=layer.vertices * np.float32([2, 1, 1]))
    surface = Surface([wide], np.zeros(len(layer.faces), np.bool_), np.random.default_rng(0))
    shifts = surface.shifts([layer.vertices])
    np.testing.assert_allclose(shifts, surface.points * np.float32([-0.5, 0, 0]), atol=1e-6)


@needs_packs
def test_a_sketch_and_a_head_are_bent_from_the_same_surface() -> None:
    """Points and their shifts lead onto the unbent head's layers, whose own shape has none of the code's traits of shape."""
    source = CodedHeads(PACKS)
    for seed in (3, 4):
        sketch, head = make_sketch(source, seed), make_heads(source, seed, 1)[0]
        unbent = source.unbent(codes(seed)[0].numpy())
        tree = cKDTree(np.concatenate(unbent))
        near = head.said[:, 4] > 0.9
        for points, shift, most in (
            (sketch.points, sketch.shift, 0.02), (head.points[near], head.said[near, 5:], 0.02),
        ):  # fmt: skip
            there = points.float().numpy() + shift.float().numpy() * SHIFT
            assert np.median(tree.query(there)[0]) < most
            assert np.abs(shift.float().numpy()).mean() > 0.05
    other = other_look(codes(3)[0].numpy(), np.random.default_rng(0))
    for one, two in zip(source.unbent(codes(3)[0].numpy()), source.unbent(other), strict=True):
        assert one is two  # colours do not bend


@needs_packs
def test_a_skin_is_told_by_its_code() -> None:
    """A light and a dark one, mixed by one number: the mean colours of 300 heads follow it almost alone."""
    source, place = CodedHeads(PACKS), groups()["skin"].start
    light, dark = source.tones
    mean = np.stack([skin[::16, ::16].reshape(-1, 3).mean(0) for skin in source.wardrobe.textures.skins])
    assert set(light).isdisjoint(dark) and mean[light].mean() > 2 * mean[dark].mean()
    rows = codes(5, 300).numpy()
    looks = [source.look(row, source.macros(row)) for row in rows]
    assert {look.skin for look in looks} <= set(light) and {look.other_skin for look in looks} <= set(dark)
    assert len({look.skin for look in looks}) > 6 and len({look.other_skin for look in looks}) > 3
    bright = np.array([((1 - o.mix) * mean[o.skin] + o.mix * mean[o.other_skin]).mean() for o in looks])
    assert np.corrcoef(bright, ndtr(1.4 * rows[:, place] - 0.5))[0, 1] < -0.97


def test_another_look_keeps_shape_styles_and_length() -> None:
    code = codes(9)[0].numpy()
    other = other_look(code, np.random.default_rng(0))
    for name, place in groups().items():
        assert np.array_equal(code[place], other[place]) == (name not in LOOK), name
    settled = settle(torch.from_numpy(other)[None])
    torch.testing.assert_close(settled[0], torch.from_numpy(other))


def test_makers_make_beside_and_a_dead_one_is_noticed() -> None:
    """Two processes share the seeds; what they made comes whole; when one has died, that is said."""
    makers = Makers(PACKS, told, 5, 2)
    if PACKS.is_dir():
        seeds = sorted(seed for seed, _ in makers.take(4))
        assert len(set(seeds)) == len(seeds) and min(seeds) in (5, 6)
    makers.processes[0].kill()
    makers.processes[0].join(10)
    with pytest.raises(RuntimeError, match="has died"):
        makers.take(1)
    makers.processes[1].kill()


def told(source: CodedHeads, seed: int) -> int:
    """Stands for a head."""
    return seed


@needs_packs
def test_other_colours_are_those_of_a_head_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    source = CodedHeads(PACKS)
    packs = set()
    for seed in (3, 4):
        code = codes(seed)[0].numpy()
        packs.add(source.second_pack(code))
        other = other_look(code, np.random.default_rng(seed))
        layers, anew = source.layers(code), source.layers(other)
        inner = source.inner[source.second_pack(code)]
        painted = Surface(layers, inner, np.random.default_rng(2)).samples(
            source.repainted(layers, other), source.light(other)
        )
        whole = Surface(anew, inner, np.random.default_rng(2)).samples(anew, source.light(other))
        np.testing.assert_array_equal(painted.points, whole.points)
        np.testing.assert_array_equal(painted.colours, whole.colours)
    assert packs == {False, True}
    made = make_heads(source, 3, 2)
    assert torch.equal(made[0].code, codes(3)[0]) and made[0].points is made[1].points
    assert torch.equal(made[0].said[:, 0], made[1].said[:, 0])
    assert (made[0].said[:, 1:4] - made[1].said[:, 1:4]).abs().mean() > 0.01
    monkeypatch.setattr("training.heads.pool.make_heads", lambda source, seed, looks: made[:looks])
    pool = Pool(source, 5, size=3, looks=2)
    pool.grow(2)
    assert (len(pool.heads), pool.next) == (3, 7)
