# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundled model's recipe: records against closed forms, the network's frame, training that resumes, export."""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.core.errors import InputError
from maquette.core.fields.triplane import TriplaneField
from maquette.core.models.lrm.object_lrm import (
    FILL,
    SIDE,
    ObjectLRM,
    ObjectLRMConfig,
    Stance,
    crop_picture,
    inflation,
    upright,
)
from maquette.core.models.parts.transformer import VisionTransformerConfig

from training.object_lrm.dataset import Records, augmented, one_view, stacked
from training.object_lrm.export import write
from training.object_lrm.generate import write_shards
from training.object_lrm.inheritance import inherit
from training.object_lrm.objects import ColouredMesh, family, held_out
from training.object_lrm.procedural import procedural_object
from training.object_lrm.records import Draw, framed_camera, make_record
from training.object_lrm.train import Run, queried, train
from training.object_lrm.validate import f_score, validate

TINY = ObjectLRMConfig(
    encoder=VisionTransformerConfig(width=16, depth=1, heads=2, hidden=16, patch=12, image=SIDE),
    layers=1, heads=2, features=4, hidden=8, hidden_layers=1,
)  # fmt: skip


def box(half: tuple[float, float, float]) -> ColouredMesh:
    """A box with red faces, its longest side 1 where the largest of `half` is 0.5."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    colours = np.broadcast_to(np.float32([0.8, 0.1, 0.1]), (12, 3, 3))
    return ColouredMesh("box", corners.astype(np.float32), faces, colours.astype(np.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of three boxes to train on, two to validate with."""
    out = tmp_path_factory.mktemp("records")
    shapes = [(0.5, 0.5, 0.5), (0.5, 0.3, 0.2), (0.1, 0.2, 0.5)]
    write_shards(out, "packs", [lambda half=half: box(half) for half in shapes], seed=0)
    write_shards(out, "validation", [lambda half=half: box(half) for half in shapes[:2]], seed=0)
    return out


def test_distances_of_a_box_are_those_of_its_formula() -> None:
    record = make_record(box((0.5, 0.3, 0.2)), np.random.default_rng(0))
    for kind in ("near", "free"):
        q = np.abs(record[kind].astype(float)) - (0.5, 0.3, 0.2)
        true = np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)
        wrong = np.abs(record[f"{kind}_distance"] - true)
        assert wrong.mean() < 0.003
        assert np.quantile(wrong, 0.99) < 0.015
    assert np.abs(record["colour"] - [204, 26, 26]).max() <= 1


def test_an_open_box_is_solid_all_the_same() -> None:
    closed = box((0.5, 0.5, 0.5))
    below = (closed.vertices[closed.faces][..., 2] < 0).all(1)
    open_below = ColouredMesh("open", closed.vertices, closed.faces[~below], closed.corner_rgb[~below])
    record = make_record(open_below, np.random.default_rng(0))
    deep = (np.abs(record["free"].astype(float)) < 0.4).all(1)
    assert deep.sum() > 50
    assert (record["free_distance"][deep] < 0).all()


def test_a_point_of_the_field_projects_by_the_frame_formula() -> None:
    vertices = box((0.5, 0.3, 0.2)).vertices
    camera, frame, up, nearness = framed_camera(vertices, Draw(30, 20, 3, 2.5))
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    pixels, _ = camera.project(points)
    x, y, z = (points @ frame[:, :3].T + frame[:, 3]).T
    window = np.stack([x, -z], 1) / (1 + nearness * y[:, None])
    # Off-centre crops shift the perspective's centre; the object's own middle stays where it is.
    shift = (np.array([camera.cx, camera.cy]) / (SIDE / 2) - 1) * (1 - 1 / (1 + nearness * y[:, None]))
    np.testing.assert_allclose(pixels, (1 + window + shift) * SIDE / 2, atol=1e-6)
    assert up[1] == pytest.approx(-np.sin(np.radians(20)))
    corners, _ = camera.project(vertices.astype(float))
    assert (corners.max(0) - corners.min(0)).max() == pytest.approx(FILL * SIDE)


def test_families_stay_on_one_side() -> None:
    assert family("kit/a/Tree_4_Snow.glb") == family("kit/a/Tree_Snow_11.glb") == "tree snow"
    assert family("pmndrs/low-poly-tree/model.gltf") == "low poly"
    sides = {held_out(f"quaternius/pack/Rock_{i}.glb") for i in range(20)}
    assert len(sides) == 1


@pytest.mark.parametrize("seed", range(6))
def test_procedural_objects_are_closed_face_outwards_and_repeat(seed: int) -> None:
    mesh, again = procedural_object(seed), procedural_object(seed)
    np.testing.assert_array_equal(mesh.vertices, again.vertices)
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2).astype(float)
    volume = (a * np.cross(b, c)).sum() / 6
    assert 1e-4 < volume < 1
    np.testing.assert_allclose(
        np.cross(b - a, c - a).sum(0), 0, atol=1e-4
    )  # a closed surface has no area vector


def test_top_left_of_the_picture_is_high_and_left_in_the_front_plane() -> None:
    model = ObjectLRM(TINY)
    dark = torch.zeros(1, 6, SIDE, SIDE)
    spot = dark.clone()
    spot[:, :, :4, :4] = 1
    moved = (model.pixels(spot) - model.pixels(dark)).abs().sum(1)[0] > 0
    rows, columns = torch.nonzero(moved, as_tuple=True)
    assert rows.min() >= 29
    assert columns.max() <= 2
    token = torch.zeros(1, 65, 16)
    token[0, 1, :] = 1  # the first patch
    with torch.no_grad():
        lifted = (model.lifted(token) - model.lifted(token * 0)).abs().sum(2)[0]
    assert torch.nonzero(lifted[0]).tolist() == [[7, 0]]  # z, x
    assert torch.nonzero(lifted[1]).tolist() == [[y, 0] for y in range(8)]  # y, x
    assert torch.nonzero(lifted[2]).tolist() == [[7, y] for y in range(8)]  # z, y


def test_a_disc_inflates_to_a_ball() -> None:
    middle = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    away = torch.hypot(middle[None], middle[:, None])
    distance, half = inflation((away < 0.6).float()[None])[0]
    inside, pixel = away < 0.55, 2 / SIDE
    assert (distance - (0.6 - away))[inside | (away > 0.65)].abs().max() < pixel
    assert (half[inside] - (0.36 - away[inside].square()).sqrt()).abs().max() < 2 * pixel
    assert (half[away > 0.65] < -0.2).all()
    everything = inflation(torch.ones(1, SIDE, SIDE))[0, 0]
    assert everything[0, 0] == pytest.approx(0.5 / (SIDE / 2))
    assert everything.max() == pytest.approx(1, abs=pixel)
    assert (inflation(torch.zeros(1, SIDE, SIDE)) < 0).all()


def test_an_untrained_network_gives_the_inflated_mask() -> None:
    model = ObjectLRM(TINY).eval()
    middle = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    disc = (
        torch.hypot(middle[None] - 0.2, middle[:, None] + 0.2) < 0.5
    )  # to the right and, rows run down, above
    image = torch.cat([torch.rand(3, SIDE, SIDE), disc[None].float()])
    axis = torch.linspace(-1, 1, 41)  # the box's faces too, where features fade to zero
    points = torch.cartesian_prod(axis, axis, axis)
    with torch.no_grad():
        logit = model.field(image)[0].raw(points)[:, 0]
    from_middle = (points - torch.tensor([0.2, 0.0, 0.2])).norm(dim=1)
    assert (logit[from_middle < 0.45] > 0).all()
    assert (logit[from_middle > 0.56] < 0).all()
    on_axis = torch.tensor([[0.2, y, 0.2] for y in (-0.75, -0.25, 0.25)])
    with torch.no_grad():
        found = model.field(image)[0].raw(on_axis)[:, 0]
    torch.testing.assert_close(found, TINY.slope * torch.tensor([-0.25, 0.25, 0.25]), atol=0.2, rtol=0)


def test_a_field_with_added_features_comes_back_from_its_file(tmp_path: Path) -> None:
    with torch.no_grad():
        field, _ = ObjectLRM(TINY).eval().field(torch.rand(4, SIDE, SIDE))
        field.save(tmp_path / "field.safetensors")
        points = torch.rand(50, 3) * 2 - 1
        torch.testing.assert_close(
            TriplaneField.load(tmp_path / "field.safetensors").raw(points), field.raw(points)
        )


def test_weights_without_inflation_still_load(tmp_path: Path) -> None:
    old = replace(TINY, slope=0.0)
    values = asdict(old)
    del values["slope"]
    assert ObjectLRMConfig.from_json(json.dumps(values)) == old
    assert ObjectLRM(old).pixels.layers[0].in_channels == 4


def test_training_reads_planes_as_the_field_does() -> None:
    model = ObjectLRM(TINY).eval()
    planes, points = torch.randn(2, 3, 6, 32, 32), torch.rand(2, 50, 3) * 2 - 1
    with torch.no_grad():
        expected = torch.stack([model.field_of(p).raw(x) for p, x in zip(planes, points, strict=True)])
        torch.testing.assert_close(queried(model, planes, points), expected, atol=1e-5, rtol=1e-5)


def test_mirrored_samples_stay_true(folder: Path) -> None:
    records = Records(folder, "packs")
    batch = stacked([one_view(records.shards["packs"]["packs-0000.npy"][1], 0, np.random.default_rng(0))])
    for seed in range(4):
        changed = augmented(batch, torch.Generator().manual_seed(seed))
        sign = changed.points[0, 0, 0] / batch.points[0, 0, 0]
        assert abs(sign) == 1
        torch.testing.assert_close(changed.stance[0, 0], batch.stance[0, 0] * sign)
        columns = (changed.image[0, 3] > 0.5).sum(0).float()
        before = (batch.image[0, 3] > 0.5).sum(0).float()
        before = before if sign > 0 else before.flip(0)
        assert torch.corrcoef(torch.stack([columns, before]))[0, 1] > 0.9


def test_a_resumed_run_equals_one_that_was_never_stopped(folder: Path, tmp_path: Path) -> None:
    def ran(out: Path, stops: list[int]) -> dict[str, torch.Tensor]:
        out.mkdir()
        for steps in stops:
            run = Run(1e-3, 2, torch.device("cpu"), TINY)
            if (out / "checkpoint.pt").exists():
                run.load(out / "checkpoint.pt")
            options = argparse.Namespace(
                data=folder, out=out, batch=2, steps=steps, cooldown=0, save_every=1e9
            )
            train(run, options, out / "checkpoint.pt")
        return run.model.state_dict()

    straight, stopped = ran(tmp_path / "a", [4]), ran(tmp_path / "b", [2, 4])
    for name, tensor in straight.items():
        assert torch.equal(tensor, stopped[name]), name
    lines = [json.loads(line) for line in (tmp_path / "b/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [2, 4]


def test_loss_falls_on_three_boxes(folder: Path) -> None:
    run, records = Run(1e-2, 5, torch.device("cpu"), TINY), Records(folder, "packs")
    batch = records.batch(6, np.random.default_rng(0))
    first = run.advance(batch)
    for _ in range(100):
        last = run.advance(batch)
    assert last["shape"] < 0.95 * first["shape"]  # which is that of the inflated masks
    assert last["right"] > first["right"]


def test_scores_of_the_truth_and_of_nothing() -> None:
    points = np.random.default_rng(0).normal(size=(2000, 3))
    assert f_score(points, points, 0.1) == 1
    assert f_score(np.zeros((0, 3)), points, 0.1) == 0
    assert f_score(points + [10, 0, 0], points, 0.1) == 0


def test_validation_gives_numbers_for_an_untrained_network(folder: Path) -> None:
    scores = validate(ObjectLRM(TINY).eval(), Records(folder, "validation"))
    assert 0.5 < scores["iou"] < 0.8  # of boxes and their inflated outlines
    assert 0.3 < scores["f10"] < 0.9


def test_weights_come_back_from_their_file(tmp_path: Path) -> None:
    model = ObjectLRM(TINY).eval()
    write(model, -0.4, tmp_path / "w.safetensors", {})
    loaded = ObjectLRM.from_file(tmp_path / "w.safetensors")
    assert loaded.config.level == pytest.approx(np.exp(-0.4))
    image = torch.rand(4, SIDE, SIDE)
    with torch.no_grad():
        field, stance = loaded.field(image)
        torch.testing.assert_close(field.planes, model.field(image)[0].planes, atol=2e-2, rtol=2e-2)
    assert field.level == loaded.config.level
    assert np.linalg.norm(stance.up) == pytest.approx(1)
    tensors = dict(model.state_dict())
    del tensors["tokens"]
    with pytest.raises(InputError, match="tokens") as caught:
        ObjectLRM.from_tensors(tensors, TINY)
    assert caught.value.code == "WEIGHTS_MISMATCH"


def test_upright_stands_the_object_up_and_keeps_the_seen_side_in_front() -> None:
    e = np.radians(25)
    turn = upright(Stance(np.array([0, -np.sin(e), np.cos(e)]), 0.3))
    np.testing.assert_allclose(turn @ [0, -np.sin(e), np.cos(e)], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(turn @ [0, -1, 0], [0, -np.cos(e), np.sin(e)], atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    overhead = upright(Stance(np.array([0, -1.0, 0]), 0.3))
    np.testing.assert_allclose(overhead @ [0, 0, 1], [0, 1, 0], atol=1e-12)


def test_a_crop_is_centred_and_fills_its_share() -> None:
    rgba = np.zeros((200, 300, 4), np.uint8)
    rgba[50:150, 20:70] = (255, 0, 0, 255)
    crop = crop_picture(rgba)
    rows, columns = torch.nonzero(crop[3] > 0.5, as_tuple=True)
    assert (rows.max() - rows.min() + 1) / SIDE == pytest.approx(FILL, abs=0.02)
    assert float(rows.float().mean()) == pytest.approx((SIDE - 1) / 2, abs=1)
    assert float(columns.float().mean()) == pytest.approx((SIDE - 1) / 2, abs=1)
    assert torch.allclose(crop[:, SIDE // 2, SIDE // 2], torch.tensor([1.0, 0, 0, 1]), atol=1e-3)
    with pytest.raises(InputError):
        crop_picture(rgba * 0)


def test_an_inherited_network_adds_the_old_logit_to_the_inflated_mask() -> None:
    torch.manual_seed(0)
    old, new = ObjectLRM(replace(TINY, slope=0.0)).eval(), ObjectLRM(TINY).eval()
    image, points = torch.rand(4, SIDE, SIDE), torch.rand(50, 3) * 2 - 1
    with torch.no_grad():
        mask = new.field(image)[0].raw(points)[:, 0]
        before = old.field(image)[0].raw(points)
        inherit(new, old.state_dict(), 0.5)
        after = new.field(image)[0].raw(points)
    torch.testing.assert_close(after[:, 0], mask + 0.5 * before[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after[:, 1:], before[:, 1:], atol=1e-5, rtol=1e-5)
